"""The RIC's REST application without sockets, for `benchmarks.fuzz`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import ric.platform as platform_module
from ric.a1.policies import parse_type
from ric.app_policies import policy_type_object
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.platform import RicConfig, RicPlatform
from ric.runtime import App
from ric.telemetry import Metrics

__all__ = ["RestApplication"]


class RestApplication:
    """The RIC's whole REST application, called as a server calls it, without sockets."""

    def __init__(self, apps: Sequence[type[App[Any, Any, Any, Any]]]) -> None:
        """One policy type per app is registered."""
        self.loop = asyncio.new_event_loop()
        self.app: Any = None
        self.loop.run_until_complete(self._start(apps))

    async def _start(self, apps: Sequence[type[App[Any, Any, Any, Any]]]) -> None:
        @contextlib.asynccontextmanager
        async def hold(app: Any, *_: Any) -> AsyncIterator[int]:
            self.app = app
            yield 1

        with patch.object(platform_module, "serve", hold):
            free = dict.fromkeys(("node_address", "xapp_address", "a1_address"), "127.0.0.1:0")
            config = RicConfig.model_validate({**free, "rest_requests_per_s": 1e6})
            self._platform = RicPlatform(config, MemoryBus(), WallClock(), Metrics("fuzz"), environ={})
            await self._platform.start()
        for app in apps:
            text = json.dumps(policy_type_object(app.policy_type, app.spec))
            self._platform.a1.book.set_type(parse_type(app.spec.name, app.spec.policy_type_id, text))

    async def ask(self, method: str, path: bytes, query: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        answers: list[Mapping[str, Any]] = []
        asked = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Mapping[str, Any]:
            return asked.pop() if asked else {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            answers.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path.decode("latin-1"), "raw_path": quote(path).encode(), "query_string": query, "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
        }  # fmt: skip
        await self.app(scope, receive, send)
        return int(answers[0]["status"]), b"".join(each.get("body", b"") for each in answers[1:])
