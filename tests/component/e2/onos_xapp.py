"""An xApp on the unmodified onos-ric-sdk-python, run by its own interpreter.

Reads its task as JSON from standard input, subscribes, takes some indications, sends two controls, unsubscribes, and
writes what it saw as JSON to standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys

from grpclib import GRPCError
from onos_api.e2t.e2.v1beta1 import Action, ActionType
from onos_ric_sdk_py import E2Client
from onos_ric_sdk_py.exceptions import ClientRuntimeError


async def main(task: dict) -> dict:
    octets = {name: bytes.fromhex(value) for name, value in task["octets"].items()}
    node = task["e2_node_id"]
    seen = {"indications": []}
    async with E2Client(app_id="onos-xapp", e2t_endpoint="") as client:
        actions = [Action(id=1, type=ActionType.ACTION_TYPE_REPORT, payload=octets["action"])]
        stream = client.subscribe(node, *task["kpm"], task["subscription_id"], octets["trigger"], actions)
        async for header, message in stream:
            seen["indications"].append([header.hex(), message.hex()])
            if len(seen["indications"]) == task["indications"]:
                break
        outcome = await client.control(node, *task["ccc"], octets["control_header"], octets["control_message"])
        seen["outcome"] = outcome.hex()
        try:
            await client.control(node, *task["ccc"], octets["control_header"], octets["bad_message"])
        except ClientRuntimeError as error:
            cause = error.__cause__
            assert isinstance(cause, GRPCError)
            metadata = dict(cause.details or {}) if isinstance(cause.details, dict) else {}
            seen["refusal"] = {"status": cause.status.name, "message": cause.message, "details": str(metadata)}
        await client.unsubscribe(node, *task["kpm"], task["subscription_id"])
        await stream.aclose()
    return seen


if __name__ == "__main__":
    json.dump(asyncio.run(main(json.load(sys.stdin))), sys.stdout)
