"""Running the application: uvicorn with limits on slow clients, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from anadil.errors import AnadilError
from anadil.serving.app import ServerSettings, make_app
from anadil.serving.archive import Archive
from anadil.serving.guard import is_loopback
from anadil.serving.keys import VARIABLE, Keys

_BACKLOG = 2048
_FINISH_S = 120
"""After SIGTERM: how long requests may take to end."""

_OWN_FILES = 4096
"""Open files that a server should be able to have: each connection is one."""


def serve(settings: ServerSettings, keys: Keys, port: int, on_start: Callable[[str], None]) -> None:
    """Run a server until SIGTERM or Ctrl-C; then finish what it has. `on_start` gets the address of the page.

    Raises AnadilError if it may not listen there without keys, or cannot.
    """
    if not is_loopback(settings.host) and not keys.required:
        raise AnadilError(
            f"a server on {settings.host} is open to other machines, so it needs keys\n"
            f"  next: --api-key-file FILE with a line for each: NAME KEY; or {VARIABLE}='NAME KEY'"
        )
    _raise_file_limit()
    with (
        contextlib.closing(_listen(settings.host, port)) as listening,
        contextlib.closing(Archive(settings.data)) as archive,
    ):
        _run(settings, keys, archive, listening, on_start)


def _run(
    settings: ServerSettings, keys: Keys, archive: Archive, listening: socket.socket, on_start: Callable[[str], None]
) -> None:
    shown = "localhost" if settings.host == "127.0.0.1" else settings.host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}/"
    protocol = _protocol(settings.limits.header_s)
    config = uvicorn.Config(
        make_app(settings, keys, archive),
        http=protocol,
        ws="websockets-sansio",
        ws_max_size=2**20,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_FINISH_S,
        lifespan="on",
    )
    try:
        _Server(config, lambda: on_start(address)).run(sockets=[listening])
    except SystemExit as failure:  # uvicorn's, after its messages
        raise AnadilError("the server could not start\n  next: see the messages above") from failure


class _Server(uvicorn.Server):
    """uvicorn's, with SIGHUP, a message when it has started, and background work that ends before connections do."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        service = self.config.app.app.state.service  # type: ignore[union-attr]
        loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, lambda: service.in_background(service.reload()))
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.app.state.service.is_closing = True  # type: ignore[union-attr]
        await super().shutdown(sockets)


def _protocol(header_s: float) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol, which closes connections whose headers take longer than `header_s`."""

    class Protocol(HttpToolsProtocol):
        _late: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._have_headers()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._expect_headers()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._have_headers()
            super().on_headers_complete()

        def _expect_headers(self) -> None:
            self._have_headers()
            self._late = self.loop.call_later(header_s, self.transport.abort)

        def _have_headers(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Protocol


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AnadilError if the address is taken or not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_REUSEADDR"):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise AnadilError(
            f"cannot listen on {host} port {port}: {error.strerror or error}\n  next: choose another --port or --host"
        ) from error
    return listening


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets this process have, at most 65,536."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < _OWN_FILES:
        logging.getLogger("anadil.serve").warning("only %d open files are allowed (ulimit -n)", most)


def log_to(handler: logging.Handler) -> None:
    """Send the server's log, a line for each request without its content, to a handler."""
    for name, level in (("anadil.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers, logger.propagate = [handler], False
