"""What every request passes before a route sees it: host and origin, key, rate, size and speed of its body; metrics, log.

Pure ASGI, so that bodies of hundreds of megabytes pass through without being held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from anadil.serving.keys import Keys, RateLimit
from anadil.serving.limits import Limits
from anadil.serving.metrics import Metrics
from anadil.serving.replies import error_body

log = logging.getLogger("anadil.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "anadil_key"
_OPEN = {"/", "/health", "/ready", "/favicon.ico", "/v1/session"}
"""Paths without a key: the page itself, which asks for one, and what supervisors ask. /page/ is open too."""

_UPLOADS = {"/v1/audio/transcriptions", "/v1/recordings"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_DROPPED_S, _DROPPED_BYTES = 1.0, 16 * 2**20
"""How much is read of a body that nobody wants, so that its client sees the answer."""

_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""Styles may be inline, because wavesurfer.js and Swagger UI set some; scripts may not."""

_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(frozen=True)
class Guard:
    """The outermost application."""

    app: App
    keys: Keys
    limits: Limits
    metrics: Metrics
    rate: RateLimit
    hosts: frozenset[str] | None  # names of this server that are accepted; None: all, because keys are required
    origins: frozenset[str]  # of other sites whose pages may ask (CORS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        exchange = _Exchange(receive, send, self.limits, self._most_bytes(scope), _has_body(headers))
        begun, name = time.monotonic(), ""
        self.metrics.open_requests.inc()
        try:
            name = self._admit(scope, headers)
            scope.setdefault("state", {})["who"] = name
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
            else:
                await self.app(scope, exchange.receive, exchange.send)
        except HTTPException as refusal:
            await _refuse(scope, exchange, receive, send, refusal)
        finally:
            self.metrics.open_requests.dec()
            if scope["type"] == "http":
                seconds, route = time.monotonic() - begun, _route(scope)
                self.metrics.count(route, exchange.status, seconds)
                key = f" key {name}" if name else ""
                log.info("%s %s %d %.3f s%s", scope["method"], route, exchange.status, seconds, key)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """The name of the request's key; "" if none is needed. Raises HTTPException."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and _name_of(host) not in self.hosts:  # a page that rebinds its name to 127.0.0.1
            raise HTTPException(421, f"this server is not called {host[:100]!r}; open it by its address, or use keys")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin not in self.origins and urlsplit(origin).netloc != host:
            raise HTTPException(403, "a page of another site may not use this server; see --cors")
        name = ""
        path: str = scope["path"]
        if (
            self.keys.required
            and path not in _OPEN
            and not path.startswith("/page/")
            and scope.get("method") != "OPTIONS"
        ):
            found = self.keys.name_of(presented_key(headers))
            if found is None:
                raise HTTPException(
                    401, "no valid API key; send it as: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
                )
            name = found
        if path.startswith("/v1/"):
            client = scope.get("client") or ("?",)
            wait_s = self.rate.wait_s(name or str(client[0]))
            if wait_s:
                raise HTTPException(429, "too many requests", {"Retry-After": str(max(1, round(wait_s)))})
        most = self._most_bytes(scope)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise HTTPException(413, f"the request is larger than the allowed {most:,} bytes")
        return name

    def _most_bytes(self, scope: Scope) -> int:
        return self.limits.max_bytes + 2**20 if scope["path"] in _UPLOADS else self.limits.body_bytes


class _Exchange:
    """`receive` and `send` of a request, whose body may neither be too large nor come too slowly.

    An answer that comes before the body has ended closes the connection; first some of the rest is read and dropped, because
    a system that closes a connection with unread data tells the client to forget the answer.
    """

    def __init__(self, receive: Receive, send: Send, limits: Limits, most_bytes: int, has_body: bool) -> None:
        self._receive, self._send, self._limits, self._most_bytes = receive, send, limits, most_bytes
        self._n_bytes, self._begun, self._is_whole = 0, time.monotonic(), not has_body
        self.status = 500

    async def receive(self) -> Message:
        """The next message. Raises HTTPException."""
        if self._is_whole:  # what is left is whether the client goes away
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.idle_s)
        except TimeoutError:
            raise HTTPException(408, "the body comes too slowly") from None
        self._n_bytes += len(message.get("body", b""))
        self._is_whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        elapsed = time.monotonic() - self._begun - self._limits.idle_s
        if self._n_bytes > self._most_bytes:
            raise HTTPException(413, f"the request is larger than the allowed {self._most_bytes:,} bytes")
        if not self._is_whole and self._n_bytes < elapsed * self._limits.least_bytes_per_s:
            raise HTTPException(408, "the body comes too slowly")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            closing = [] if self._is_whole else [(b"connection", b"close")]
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS, *closing]}
        elif not self._is_whole and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drop_rest()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drop_rest(self) -> None:
        n_bytes = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DROPPED_S):
                while n_bytes < _DROPPED_BYTES:
                    message = await self._receive()
                    n_bytes += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def accepted_hosts(host: str) -> frozenset[str]:
    """Names under which a server without keys may be asked."""
    return frozenset({*_LOOPBACK, host.strip("[]").lower()})


def is_loopback(host: str) -> bool:
    return host in _LOOPBACK or host.startswith("127.")


def presented_key(headers: dict[bytes, bytes]) -> str:
    """The key of a request: Authorization: Bearer KEY, or the page's cookie."""
    kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _route(scope: Scope) -> str:
    """The path with its parameters' names, so that metrics and logs hold no names of recordings."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else "(other)"


async def _refuse(scope: Scope, exchange: _Exchange, receive: Receive, send: Send, refusal: HTTPException) -> None:
    if scope["type"] == "websocket":  # before it is accepted: the client sees status 403
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail[:100]})
        return
    body = error_body(refusal.status_code, refusal.detail)
    headers = [(name.lower().encode(), value.encode()) for name, value in (refusal.headers or {}).items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await exchange.send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": body})
