"""Servers and channels of the house: limits, TLS, bearer scopes, error translation.

Transports render one :class:`~ric.errors.TwinRicError`: gRPC as status and trailing metadata, HTTP as problem+json.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

import grpc
import uvicorn
from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ric.errors import SHOWN_FAULTS, Fault, TwinRicError
from ric.grpc_requests import Parse, check_role, request_parser
from ric.security import RateLimit, TlsMaterial, TokenVerifier
from ric.telemetry import Metrics, logger

__all__ = [
    "ErrorTranslation", "bind_grpc", "error_of_rpc", "grpc_channel", "grpc_server", "problem_of",
    "require_scope", "rest_app", "serve",
]  # fmt: skip

GRPC_MAX_BYTES = 16 * 1024 * 1024
REST_MAX_BYTES = 1024 * 1024
CODE_KEY = "twinric-code"
FAULTS_KEY = "twinric-faults-bin"
_KEEP_ALIVE = [
    ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0),
]  # fmt: skip
_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", bearerFormat="JWT")  # for the OpenAPI file only
_log = logger("servers")


# gRPC ---------------------------------------------------------------------------------------------------------------


def grpc_server(
    metrics: Metrics, *, max_bytes: int = GRPC_MAX_BYTES, limit: RateLimit | None = None
) -> grpc.aio.Server:
    """A gRPC server, not yet bound, that translates TwinRicError and answers INTERNAL to anything unexpected.

    `limit` counts calls per client; a stream is one call.
    """
    options = [
        *_size_options(max_bytes), *_KEEP_ALIVE, ("grpc.so_reuseport", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        # A process that was starved of CPU sends its pings in a bunch; that is no reason to hang up on it.
        ("grpc.http2.max_ping_strikes", 0),
    ]  # fmt: skip
    return grpc.aio.server(interceptors=[ErrorTranslation(metrics, limit)], options=options)


def bind_grpc(server: grpc.aio.Server, field: str, address: str, tls: TlsMaterial | None) -> int:
    """The port that `server` now listens on. Raises TwinRicError (CONFIG-RANGE) when `address` cannot be bound."""
    try:
        if tls is None:
            return server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials(
            [(tls.key, tls.certificate)], root_certificates=tls.ca, require_client_auth=tls.ca is not None
        )
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise TwinRicError("CONFIG-RANGE", field, address, "a free address of this machine, host:port") from error


def grpc_channel(address: str, tls: TlsMaterial | None = None, *, max_bytes: int = GRPC_MAX_BYTES) -> grpc.aio.Channel:
    """A channel to `address` that reconnects within two seconds; with TLS it shows our certificate."""
    options = [
        *_size_options(max_bytes), *_KEEP_ALIVE, ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]  # fmt: skip
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return grpc.aio.secure_channel(address, credentials, options=options)


def _size_options(max_bytes: int) -> list[tuple[str, Any]]:
    return [("grpc.max_receive_message_length", max_bytes), ("grpc.max_send_message_length", max_bytes)]


def error_of_rpc(error: grpc.aio.AioRpcError, peer: str, unreachable_code: str) -> TwinRicError:
    """The TwinRicError that the peer raised, or one with `unreachable_code` that names the peer and its gRPC status."""
    for key, value in cast(Any, error.trailing_metadata()) or ():
        if key == FAULTS_KEY:
            faults = _faults(value if isinstance(value, bytes) else value.encode())
            if faults:
                return TwinRicError.of(faults)
    code = "LIMIT-SIZE" if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else unreachable_code
    return TwinRicError(code, "peer", peer, "a peer that answers", f"{error.code().name}: {error.details()}")


def _faults(payload: bytes) -> list[Fault]:
    try:
        rows = json.loads(payload)
        return [Fault(*(str(row[key]) for key in ("code", "field", "value", "accepted", "remedy"))) for row in rows]
    except (ValueError, KeyError, TypeError):
        return []


class ErrorTranslation(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Turns errors of a servicer into gRPC statuses and counts them, so that a bad message never ends the process."""

    def __init__(self, metrics: Metrics, limit: RateLimit | None = None) -> None:
        self._metrics = metrics
        self._limit = limit

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """The servicer's method, wrapped."""
        method = await continuation(details)
        if method is None:
            return None
        make = getattr(
            grpc, f"{_arity(method.request_streaming)}_{_arity(method.response_streaming)}_rpc_method_handler"
        )
        behaviour = getattr(method, f"{_arity(method.request_streaming)}_{_arity(method.response_streaming)}")
        path = str(details.method)
        wrap = self._stream if method.response_streaming else self._unary
        wrapped = wrap(behaviour, path, request_parser(path, method))
        return make(wrapped, None, method.response_serializer)

    def _unary(self, behaviour: Callable[..., Any], path: str, parse: Parse) -> Callable[..., Any]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                self._admit(context, path)
                return await behaviour(parse(request), context)
            except Exception as error:  # noqa: BLE001 - the one translator of this transport
                await self._abort(context, error)

        return call

    def _stream(self, behaviour: Callable[..., Any], path: str, parse: Parse) -> Callable[..., Any]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            try:
                self._admit(context, path)
                async with contextlib.aclosing(cast(Any, behaviour(parse(request), context))) as answers:
                    async for answer in answers:
                        yield answer
            except Exception as error:  # noqa: BLE001 - the one translator of this transport
                await self._abort(context, error)

        return call

    def _admit(self, context: grpc.aio.ServicerContext[Any, Any], path: str) -> None:
        check_role(context.auth_context(), path)
        if self._limit is not None:  # "ipv4:127.0.0.1:5151": the port tells connections apart, not clients
            self._limit.check(context.peer().rpartition(":")[0], time.monotonic())

    async def _abort(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = _known(error, "grpc")
        self._metrics.count_refused(known.code)
        metadata = ((CODE_KEY, known.code), (FAULTS_KEY, json.dumps(_fault_rows(known)).encode()))
        await context.abort(getattr(grpc.StatusCode, known.row.grpc_status), str(known), metadata)


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def _known(error: Exception, transport: str) -> TwinRicError:
    if isinstance(error, TwinRicError):
        return error
    _log.error("unexpected failure", transport=transport, fault=repr(error), exc_info=error)
    return TwinRicError("INTERNAL", "request", type(error).__name__, "none of this", "The log has the details.")


# REST ---------------------------------------------------------------------------------------------------------------


def rest_app(
    title: str, metrics: Metrics, *, max_bytes: int = REST_MAX_BYTES, limit: RateLimit | None = None
) -> FastAPI:
    """A FastAPI application that answers every error as RFC 7807 problem+json and limits body size and request rate."""
    app = FastAPI(
        title=title,
        version="1.0.0",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )

    async def refuse(request: Request, error: Exception) -> Response:
        known = _known(error, "rest")
        metrics.count_refused(known.code)
        return problem_of(known, request.url.path)

    async def refuse_parameters(request: Request, error: Exception) -> Response:
        rows = cast(RequestValidationError, error).errors()
        faults = [Fault("REST-RANGE", ".".join(map(str, row["loc"])), row.get("input"), row["msg"]) for row in rows]
        return await refuse(request, TwinRicError.of(faults))

    async def refuse_route(request: Request, error: Exception) -> Response:
        status = cast(HTTPException, error).status_code
        code = {404: "REST-PATH", 405: "REST-METHOD"}.get(status, "REST-RANGE")
        headers = dict(cast(HTTPException, error).headers or {})
        if status == 405:  # routes know their own methods only
            headers = {"Allow": ", ".join(sorted(_methods(app, request.scope)))}
        field, value = ("method", request.method) if status == 405 else ("path", request.url.path)
        accepted = headers.get("Allow", "a path of this API")
        metrics.count_refused(code)
        return problem_of(TwinRicError(code, field, value, accepted), request.url.path, headers=headers)

    app.add_exception_handler(TwinRicError, refuse)
    app.add_exception_handler(RequestValidationError, refuse_parameters)
    app.add_exception_handler(HTTPException, refuse_route)
    app.add_middleware(cast(Any, _Guard), metrics=metrics, max_bytes=max_bytes, limit=limit)
    return app


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    known = ("GET", "PUT", "POST", "PATCH", "DELETE")
    return {m for m in known if any(r.matches({**scope, "method": m})[0] is Match.FULL for r in app.router.routes)}


def problem_of(error: TwinRicError, instance: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """The RFC 7807 form of `error`; member `faults` names each offending field with its accepted range."""
    status = error.row.http_status
    body = {
        "type": f"urn:twinric:error:{error.code}",
        "title": error.row.title,
        "status": status,
        "detail": str(error),
        "instance": instance,
        "code": error.code,
        "field": error.faults[0].field,
        "faults": _fault_rows(error),
    }
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    # In ASCII: what is wrong may be a name that no encoding takes.
    return Response(json.dumps(body), status, extra, media_type="application/problem+json")


def _fault_rows(error: TwinRicError) -> list[dict[str, str]]:
    return [
        {
            "code": f.code, "field": f.field, "value": repr(f.value)[:80], "accepted": f.accepted[:400],
            "remedy": f.remedy[:400],
        }
        for f in error.faults[:SHOWN_FAULTS]
    ]  # fmt: skip


def require_scope(verifier: TokenVerifier | None, scope: str) -> Callable[..., Awaitable[str]]:
    """A dependency that lets a request through when its bearer token grants `scope`; without a verifier, always.

    A coroutine, since FastAPI sends each call of a plain function through a thread.
    """

    async def allow() -> str:
        return "anonymous"

    async def check(request: Request, _: object = Security(_BEARER, scopes=[scope])) -> str:
        assert verifier is not None
        return verifier.require(request.headers.get("Authorization"), scope)

    return allow if verifier is None else check


class _Guard:
    """Outermost layer: request rate, body size, and the last catch, so that a bug answers 500 and is counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_bytes: int, limit: RateLimit | None) -> None:
        self._app = app
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._max_bytes)
        try:
            if self._limit is not None:
                self._limit.check((scope.get("client") or ("unknown",))[0], time.monotonic())
            if not scope.get("query_string", b"").isascii():  # RFC 3986, 3.4; what decodes it later trusts that
                query = scope["query_string"]
                raise TwinRicError("REST-RANGE", "query", query, "ASCII; other characters as %XX of their UTF-8")
            length = dict(scope["headers"]).get(b"content-length", b"0")
            exchange.count(int(length) if length.isdigit() else 0)
            await self._app(scope, exchange.receive, exchange.send)
            if exchange.fault is not None and not exchange.started:
                raise exchange.fault
        except Exception as error:  # noqa: BLE001 - the one translator of this transport
            known = _known(error, "rest")
            self._metrics.count_refused(known.code)
            if not exchange.started:
                await problem_of(known, scope["path"])(scope, receive, send)


class _Exchange:
    """One request and its answer; an answer to a body that proved too large is withheld, whatever it says."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._received = 0
        self.started = False
        self.fault: TwinRicError | None = None

    def count(self, size: int) -> None:
        """Raises TwinRicError (LIMIT-SIZE) when a body of `size` octets is too large."""
        if size > self._max_bytes:
            self.fault = TwinRicError("LIMIT-SIZE", "body", f"{size} octets", f"at most {self._max_bytes} octets")
            raise self.fault

    async def receive(self) -> Message:
        """The next part of the request."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self.count(self._received)
        return message

    async def send(self, message: Message) -> None:
        """The next part of the answer."""
        if self.fault is None or self.started:
            self.started = True
            await self._send(message)


class _Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is not followed by mypy
    """uvicorn inside a loop that somebody else owns: signals are theirs."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int, tls: TlsMaterial | None = None) -> AsyncIterator[int]:
    """Serve `app` inside the block; yields the bound port (`port` 0 takes a free one).

    Raises TwinRicError (CONFIG-RANGE) when the address cannot be bound. Open requests get a second to end.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1,
        ssl_certfile=tls.files.certificate_file if tls else None, ssl_keyfile=tls.files.key_file if tls else None,
        ssl_ca_certs=str(tls.files.ca_file) if tls and tls.files.ca_file else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.files.ca_file else ssl.CERT_NONE,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sets TCP_NODELAY; else head and body of an answer wait 40 ms for each other.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise TwinRicError("CONFIG-RANGE", "listen", f"{host}:{port}", "a free address of this machine") from error
    server = _Server(config)
    running = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    try:
        up = asyncio.get_running_loop().create_task(server.up.wait())
        await asyncio.wait({running, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if running.done():
            raise TwinRicError("INTERNAL", "listen", f"{host}:{port}", "a server that starts") from running.exception()
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(running, return_exceptions=True)
        listener.close()
