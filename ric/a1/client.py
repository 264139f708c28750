"""A1 from the apps' side: the feed of policies that an app obeys, and the clients with which rApps make policies."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import grpc
import httpx

from ric.errors import CATALOGUE, Fault, TwinRicError
from ric.pb.twinric.a1.v1 import policy_pb2
from ric.pb.twinric.a1.v1.policy_pb2_grpc import PolicyServiceStub
from ric.security import TlsMaterial
from ric.servers import grpc_channel
from ric.telemetry import logger

__all__ = ["A1pClient", "PmsClient", "PolicyClient", "PolicyFeed"]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
PutCallback = Callable[[str, int, dict[str, Any]], None]
DeleteCallback = Callable[[str, int], None]


class _Outbox:
    """Statuses on their way over one connection, the newest per policy."""

    def __init__(self, register: policy_pb2.RegisterPolicyType) -> None:
        self._register = register
        self._statuses: dict[str, policy_pb2.PolicyStatus] = {}
        self._news = asyncio.Event()
        self._closed = False

    def put(self, status: policy_pb2.PolicyStatus) -> None:
        """Queue a status in the place of an older one of the same policy."""
        self._statuses.pop(status.policy_id, None)
        self._statuses[status.policy_id] = status
        self._news.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._news.set()

    async def messages(self) -> AsyncIterator[policy_pb2.AppMessage]:
        """The registration, then statuses until :meth:`close`."""
        yield policy_pb2.AppMessage(register=self._register)
        while True:
            await self._news.wait()
            self._news.clear()
            if self._closed:
                return
            while self._statuses:
                policy_id = next(iter(self._statuses))
                yield policy_pb2.AppMessage(status=self._statuses.pop(policy_id))


class PolicyFeed:
    """The policies of one type, as the RIC holds them: all of them at every (re)connection, then each change."""

    def __init__(
        self,
        address: str,
        *,
        app_id: str,
        instance_id: str,
        policy_type_id: str,
        policy_type: Mapping[str, Any],
        tls: TlsMaterial | None = None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._register = policy_pb2.RegisterPolicyType(
            app_id=app_id, app_instance_id=instance_id, policy_type_id=policy_type_id,
            policy_type_json=json.dumps(policy_type),
        )  # fmt: skip
        self._log = logger("a1_feed")
        self._revisions: dict[str, int] = {}
        self._outbox = _Outbox(self._register)

    async def run(self, on_put: PutCallback, on_delete: DeleteCallback, on_replay_complete: Callable[[], None]) -> None:
        """Follow the policies until cancelled; connection losses are waited out.

        Policies that vanished while there was no connection are deleted before `on_replay_complete`.
        Raises TwinRicError when the RIC refuses the policy type, which waiting would not mend.
        """
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with contextlib.aclosing(self._follow(on_put, on_delete)) as connection:
                    async for kind in connection:
                        wait_s = FIRST_WAIT_S
                        if kind == "replay_complete":
                            on_replay_complete()
                self._log.info("policy stream ended", peer=self._address)
            except grpc.aio.AioRpcError as error:
                self._log.info("no policy stream", peer=self._address, fault=error.code().name)
            await asyncio.sleep(wait_s)  # towards a network peer: real time, whatever the clock
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def report(self, policy_id: str, revision: int, enforced: bool, reason: str = "", text: str = "") -> None:
        """Queue a status; the newest per policy wins and it is sent as soon as there is a connection.

        `reason` is an A1 enforce reason and is left out when `enforced`. Raises ValueError for an unknown one.
        """
        status = policy_pb2.EnforceStatus.Value(f"ENFORCE_STATUS_{'ENFORCED' if enforced else 'NOT_ENFORCED'}")
        name = "UNSPECIFIED" if enforced else reason or "OTHER_REASON"
        message = policy_pb2.PolicyStatus(
            policy_id=policy_id, revision=revision, enforce_status=status,
            enforce_reason=policy_pb2.EnforceReason.Value(f"ENFORCE_REASON_{name}"), text=text,
        )  # fmt: skip
        self._outbox.put(message)

    async def _follow(self, on_put: PutCallback, on_delete: DeleteCallback) -> AsyncGenerator[str, None]:
        """One connection: the kinds of the messages taken."""
        # A new connection replays the policies and the app answers those; what it said before is out of date.
        outbox = self._outbox = _Outbox(self._register)
        replayed: set[str] | None = set()
        async with grpc_channel(self._address, self._tls) as channel:
            try:
                async for message in PolicyServiceStub(channel).Policies(outbox.messages()):
                    replayed = self._take(message, replayed, on_put, on_delete)
                    yield str(message.WhichOneof("message"))
            finally:
                outbox.close()

    def _take(
        self, message: policy_pb2.RicMessage, replayed: set[str] | None, on_put: PutCallback, on_delete: DeleteCallback
    ) -> set[str] | None:
        kind = message.WhichOneof("message")
        if kind == "put":
            put = message.put
            self._revisions[put.policy_id] = put.revision
            if replayed is not None:
                replayed.add(put.policy_id)
            on_put(put.policy_id, put.revision, json.loads(put.policy_json))
        elif kind == "delete":
            self._revisions.pop(message.delete.policy_id, None)
            on_delete(message.delete.policy_id, message.delete.revision)
        elif kind == "replay_complete":
            for policy_id in set(self._revisions) - (replayed or set()):
                on_delete(policy_id, self._revisions.pop(policy_id))
            return None
        elif kind == "refused":
            code = message.refused.code if message.refused.code in CATALOGUE else "A1-MALFORMED"
            raise TwinRicError(code, "policy_type_id", self._register.policy_type_id, "a type that the RIC accepts",
                               message.refused.text)  # fmt: skip
        return replayed


class PolicyClient(Protocol):
    """How an rApp makes policies, whatever stands between it and the Near-RT RIC. All methods raise TwinRicError."""

    async def policy_types(self) -> list[str]:
        """Ids of the policy types that can be used."""
        ...

    async def list_policies(self, type_id: str) -> list[str]:
        """Ids of the policies of one type."""
        ...

    async def put_policy(self, type_id: str, policy_id: str, body: Mapping[str, Any]) -> None:
        """Create the policy or replace its content; returns once it is stored."""
        ...

    async def delete_policy(self, type_id: str, policy_id: str) -> None:
        """Remove the policy."""
        ...

    async def policy_status(self, type_id: str, policy_id: str) -> dict[str, Any]:
        """The status object: enforceStatus and, where not enforced, enforceReason."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class _RestClient:
    """What both back ends share: one HTTP connection pool, a bearer token, errors as TwinRicError."""

    def __init__(self, base_url: str, token: str | None, timeout_s: float) -> None:
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_s, trust_env=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, if its status is below 400. Raises TwinRicError: the peer's own fault where it names one."""
        try:
            answer = await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            peer = str(self._http.base_url)
            raise TwinRicError("A1-UNREACHABLE", "base_url", peer, "an A1 service that answers", repr(error)) from error
        if answer.status_code >= 400:
            raise _error_of(answer, path)
        return answer

    async def _ids(self, path: str, key: str, **options: Any) -> list[str]:
        answer = await self._call("GET", path, **options)
        rows = _json(answer)
        if not isinstance(rows, list):
            raise TwinRicError("A1-MALFORMED", path, rows, "a JSON array")
        return sorted(str(row[key] if isinstance(row, dict) and key in row else row) for row in rows)

    async def _object(self, path: str) -> dict[str, Any]:
        value = _json(await self._call("GET", path))
        if not isinstance(value, dict):
            raise TwinRicError("A1-MALFORMED", path, value, "a JSON object")
        return value


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise TwinRicError("A1-MALFORMED", str(answer.url), answer.text[:80], "JSON") from error


def _error_of(answer: httpx.Response, path: str) -> TwinRicError:
    body: Any = None
    with contextlib.suppress(ValueError):
        body = answer.json()
    rows = body.get("faults", []) if isinstance(body, dict) else []
    faults = [
        Fault(row["code"], str(row["field"]), str(row["value"]), str(row["accepted"]), str(row["remedy"]))
        for row in rows
        if isinstance(row, dict)
        and row.get("code") in CATALOGUE
        and {"field", "value", "accepted", "remedy"} <= set(row)
    ]
    if faults:
        return TwinRicError.of(faults)
    codes = {
        401: "AUTH-MISSING",
        403: "AUTH-SCOPE",
        404: "A1-UNKNOWN",
        409: "A1-CONFLICT",
        413: "LIMIT-SIZE",
        429: "LIMIT-RATE",
    }
    code = codes.get(answer.status_code, "A1-UNREACHABLE" if answer.status_code >= 500 else "A1-RANGE")
    detail = body.get("detail") if isinstance(body, dict) else None
    return TwinRicError(code, path, answer.status_code, "a request that the A1 service accepts", str(detail or ""))


def _policy_path(type_id: str, policy_id: str = "") -> str:
    path = f"/A1-P/v2/policytypes/{quote(type_id, safe='')}/policies"
    return f"{path}/{quote(policy_id, safe='')}" if policy_id else path


class A1pClient(_RestClient):
    """Policies through a Near-RT RIC's own A1-P v2; `base_url` is scheme, host and port."""

    def __init__(self, base_url: str, token: str | None = None, *, timeout_s: float = 10.0) -> None:
        super().__init__(base_url, token, timeout_s)

    async def policy_types(self) -> list[str]:
        """Ids of the policy types that apps of this RIC registered."""
        return await self._ids("/A1-P/v2/policytypes", "policyTypeId")

    async def list_policies(self, type_id: str) -> list[str]:
        """Ids of the policies of one type."""
        return await self._ids(_policy_path(type_id), "policyId")

    async def put_policy(
        self, type_id: str, policy_id: str, body: Mapping[str, Any], *, notification_destination: str | None = None
    ) -> None:
        """Create or replace; status changes are posted to `notification_destination`."""
        query = {"notificationDestination": notification_destination} if notification_destination else {}
        await self._call("PUT", _policy_path(type_id, policy_id), json=dict(body), params=query)

    async def delete_policy(self, type_id: str, policy_id: str) -> None:
        """Remove the policy."""
        await self._call("DELETE", _policy_path(type_id, policy_id))

    async def policy(self, type_id: str, policy_id: str) -> dict[str, Any]:
        """The policy's content."""
        return await self._object(_policy_path(type_id, policy_id))

    async def policy_status(self, type_id: str, policy_id: str) -> dict[str, Any]:
        """The status object."""
        return await self._object(f"{_policy_path(type_id, policy_id)}/status")


class PmsClient(_RestClient):
    """Policies through the northbound API of the ONAP / OSC A1 Policy Management Service, for one Near-RT RIC.

    Source: the service's published OpenAPI file, `/a1-policy-management/v1`.
    """

    def __init__(
        self, base_url: str, ric_id: str, service_id: str, token: str | None = None, *, timeout_s: float = 10.0
    ) -> None:
        super().__init__(f"{base_url.rstrip('/')}/a1-policy-management/v1", token, timeout_s)
        self._ric_id = ric_id
        self._service_id = service_id

    async def policy_types(self) -> list[str]:
        """Ids of the policy types that the service knows of this RIC."""
        return await self._ids("/policy-types", "policyTypeId", params={"nearRtRicId": self._ric_id})

    async def list_policies(self, type_id: str) -> list[str]:
        """Ids of the policies of one type at this RIC, whoever made them."""
        query = {"policyTypeId": type_id, "nearRtRicId": self._ric_id}
        return await self._ids("/policies", "policyId", params=query)

    async def put_policy(self, type_id: str, policy_id: str, body: Mapping[str, Any]) -> None:
        """Create or replace: the service has one call for each, so a policy that it does not know is created."""
        path = f"/policies/{quote(policy_id, safe='')}"
        try:
            await self._call("PUT", path, json=dict(body))
        except TwinRicError as error:
            if error.code != "A1-UNKNOWN":
                raise
            creation = {
                "nearRtRicId": self._ric_id, "policyTypeId": type_id, "policyId": policy_id,
                "serviceId": self._service_id, "policyObject": dict(body), "transient": False,
            }  # fmt: skip
            await self._call("POST", "/policies", json=creation)

    async def delete_policy(self, type_id: str, policy_id: str) -> None:  # noqa: ARG002
        """Remove the policy; the service's ids are unique over all types."""
        await self._call("DELETE", f"/policies/{quote(policy_id, safe='')}")

    async def policy_status(self, type_id: str, policy_id: str) -> dict[str, Any]:  # noqa: ARG002
        """The status object as the RIC gave it to the service."""
        return await self._object(f"/policies/{quote(policy_id, safe='')}/status")
