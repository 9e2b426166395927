"""What every request passes before a route sees it: host and origin, key, rate, size and speed of its body; metrics, log.

Pure ASGI, so that bodies of hundreds of megabytes pass through without being held.
"""

from __future__ import annotations

import asyncio
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
        try:
            name = self._admit(scope, headers)
        except HTTPException as refusal:
            await _refuse(scope, receive, send, refusal)
            self.metrics.count(_route(scope), refusal.status_code)
            return
        scope.setdefault("state", {})["who"] = name
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        self.metrics.open_requests.inc()
        try:
            await self.app(scope, self._limited(scope, receive), watched)
        finally:
            self.metrics.open_requests.dec()
            seconds, route = time.monotonic() - begun, _route(scope)
            self.metrics.count(route, status, seconds)
            log.info("%s %s %d %.3f s%s", scope["method"], route, status, seconds, f" key {name}" if name else "")

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
            raise HTTPException(413, f"the request is larger than the allowed {most:,} bytes", {"Connection": "close"})
        return name

    def _most_bytes(self, scope: Scope) -> int:
        return self.limits.max_bytes + 2**20 if scope["path"] in _UPLOADS else self.limits.body_bytes

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """`receive`, which refuses bodies that are too large or come too slowly."""
        most, n_bytes, begun, is_whole = self._most_bytes(scope), 0, time.monotonic(), False

        async def limited() -> Message:
            nonlocal n_bytes, is_whole
            if is_whole:  # what is left is whether the client goes away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.limits.idle_s)
            except TimeoutError:
                raise HTTPException(408, "the body comes too slowly", {"Connection": "close"}) from None
            n_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            elapsed = time.monotonic() - begun - self.limits.idle_s
            if n_bytes > most:
                raise HTTPException(
                    413, f"the request is larger than the allowed {most:,} bytes", {"Connection": "close"}
                )
            if not is_whole and elapsed > 0 and n_bytes < elapsed * self.limits.least_bytes_per_s:
                raise HTTPException(408, "the body comes too slowly", {"Connection": "close"})
            return message

        return limited


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


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: HTTPException) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send(
            {"type": "websocket.close", "code": 1008, "reason": refusal.detail[:100]}
        )  # before it is accepted: 403
        return
    body = error_body(refusal.status_code, refusal.detail)
    headers = [(name.lower().encode(), value.encode()) for name, value in (refusal.headers or {}).items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    if not any(name == b"connection" for name, _ in headers) and scope.get("method") in ("POST", "PUT"):
        headers.append((b"connection", b"close"))  # its body is not read
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
