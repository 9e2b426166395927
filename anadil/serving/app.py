"""The application: routes, the page, the OpenAPI page, health and metrics, behind the guard."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from anadil import __version__
from anadil.errors import AnadilError
from anadil.serving import live, project, transcriptions
from anadil.serving.archive import Archive
from anadil.serving.child import ChildDiedError
from anadil.serving.guard import Guard, accepted_hosts
from anadil.serving.keys import Keys, RateLimit
from anadil.serving.limits import Limits
from anadil.serving.metrics import Metrics
from anadil.serving.models import BusyError
from anadil.serving.service import ClientGoneError, Service
from anadil.serving.transcriptions import answer_error, service_of
from anadil.serving.uploads import BadUploadError

PAGE = Path(__file__).parent / "page"

log = logging.getLogger("anadil.serve")

_DOCS = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Anadil: API</title>
<link rel="stylesheet" href="/page/vendor/swagger-ui.css"></head><body><div id="ui"></div>
<script src="/page/vendor/swagger-ui-bundle.js"></script><script src="/page/docs.js"></script></body></html>"""

_CACHED = {"Cache-Control": "no-cache"}
"""Of the page's files: asked for again each time, and answered 304 if they are the same; so an update is seen at once."""


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with."""

    models: Mapping[str, Path]  # by name; the first is the default one
    data: Path
    host: str = "127.0.0.1"
    limits: Limits = field(default_factory=Limits)
    n_workers: int = 1
    origins: frozenset[str] = frozenset()


def make_app(settings: ServerSettings, keys: Keys, archive: Archive) -> Guard:
    """The ASGI application of a server. What it needs is made when it starts up."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings.models, archive, settings.limits, settings.n_workers, metrics)
        app.state.service = service
        yield
        await service.close()

    app = FastAPI(
        title="Anadil", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, description=_DESCRIPTION
    )
    app.state.keys = keys
    for kind in (
        HTTPException,
        RequestValidationError,
        AnadilError,
        BadUploadError,
        BusyError,
        ChildDiedError,
        ClientGoneError,
        OSError,
        TimeoutError,
    ):
        app.add_exception_handler(kind, answer_error)
    app.include_router(transcriptions.router)
    app.include_router(live.router)
    app.include_router(project.router)
    _add_supervision(app)
    _add_page(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    hosts = None if keys.required else accepted_hosts(settings.host)
    return Guard(app, keys, settings.limits, metrics, RateLimit(settings.limits.per_minute), hosts, settings.origins)


_DESCRIPTION = (
    "Speech recognition. Transcriptions are as in OpenAI's API. WebSocket `/v1/stream?model=&sample_rate=16000&encoding=pcm16` "
    "takes mono samples in binary messages and answers partial and final results as JSON."
)


def _add_supervision(app: FastAPI) -> None:
    """What supervisors ask."""

    @app.get("/health", tags=["supervision"])
    async def health() -> dict[str, str]:
        """The server runs."""
        return {"status": "ok", "version": __version__}

    @app.get("/ready", tags=["supervision"])
    async def ready(request: Request, response: Response) -> dict[str, str]:
        """The server takes requests; 503 if not."""
        is_ready, why = service_of(request).is_ready()
        response.status_code = 200 if is_ready else 503
        return {"status": why}

    @app.get("/metrics", tags=["supervision"], response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """For Prometheus."""
        service = service_of(request)
        for name, model in service.models.items():
            service.metrics.waiting.labels(name).set(model.n_waiting)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=_CACHED)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_DOCS)

    app.mount("/page", _Files(directory=PAGE))


class _Files(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_CACHED)
        return response
