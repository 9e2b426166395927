"""Routes of the page: recordings that are kept, their segments and corrections, downloads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

import regex
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from anadil.serving.archive import ConflictError, Recording
from anadil.serving.downloads import SUFFIXES, download
from anadil.serving.guard import COOKIE
from anadil.serving.service import Service
from anadil.serving.transcriptions import find_model, receive_file, service_of
from anadil.serving.uploads import BadUploadError

router = APIRouter(tags=["page"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "model": {"type": "string"}},
                }
            }
        },
    }
}


class Change(BaseModel):
    """A segment as it is to be. `base` is the revision that was changed; 0 for a new segment."""

    start: float
    end: float
    text: str
    state: Literal["draft", "confirmed", "deleted"]
    base: Annotated[int, Field(ge=0)]
    who: Annotated[str, Field(max_length=100)] = ""


class Key(BaseModel):
    key: Annotated[str, Field(max_length=1000)]


@router.post("/v1/session")
async def session(request: Request, body: Key) -> JSONResponse:
    """Keep a key in a cookie that scripts cannot read."""
    keys = request.app.state.keys
    name = keys.name_of(body.key) if keys.required else ""
    if name is None:
        raise HTTPException(401, "no valid API key")
    answer = JSONResponse({"who": name})
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, body.key, max_age=90 * 86400, httponly=True, samesite="strict", secure=secure)
    return answer


@router.get("/v1/page")
async def page_facts(request: Request) -> dict[str, Any]:
    """What the page needs to know: models with their letters, limits, and the name of the key."""
    service = service_of(request)
    return {
        "who": request.state.who,
        "models": list(service.models),
        "default": service.default,
        "max_bytes": service.limits.max_bytes,
        "max_s": service.limits.max_s,
        "formats": list(SUFFIXES),
    }


@router.get("/v1/page/letters")
async def letters(request: Request, model: str = "") -> dict[str, Any]:
    """The letters of a model's alphabet, and its language; loads the model."""
    service = service_of(request)
    facts = await find_model(service, model or service.default).facts()
    return {"letters": letters_of_labels(facts.labels), "language": facts.language}


@router.get("/v1/recordings")
async def recordings(request: Request) -> list[dict[str, Any]]:
    """All recordings, the newest first."""
    return service_of(request).archive.summaries()


@router.post("/v1/recordings", status_code=202, openapi_extra=_FORM)
async def add(request: Request) -> dict[str, Any]:
    """Keep a recording, and recognise it in the background."""
    service = service_of(request)
    with contextlib.ExitStack() as stack:
        upload = await receive_file(request, stack)
        if not upload.n_bytes:
            raise BadUploadError(400, "the file is empty")
        model = find_model(service, (upload.fields.get("model") or [service.default])[0] or service.default)
        one = await service.write(service.archive.add, upload.path, upload.name, model.name)
    service.recognize_kept(one.id)
    return one.summary()


@router.get("/v1/recordings/{id}", response_model=None)
async def recording(request: Request, id: str, after: int = -1) -> dict[str, Any] | Response:
    """A recording with its segments and its waveform; 204 if its version is still `after`."""
    one = _find(request, id)
    if one.version == after:
        return Response(status_code=204)
    about = one.summary() | {"language": one.language, "joiner": one.joiner, "notes": one.notes}
    return about | {"segments": [segment.to_dict() for segment in one.ordered], "peaks": one.peaks}


@router.delete("/v1/recordings/{id}", status_code=204)
async def delete(request: Request, id: str) -> None:
    """Move a recording into the folder `deleted` of the project."""
    _find(request, id)
    service = service_of(request)
    await service.write(service.archive.delete, id)
    service.manifests_soon()


@router.post("/v1/recordings/{id}/recognize", status_code=202)
async def recognize(request: Request, id: str) -> dict[str, Any]:
    """Try again to recognise a recording that failed."""
    service, one = service_of(request), _find(request, id)
    if one.state != "failed":
        raise HTTPException(409, "it did not fail")
    await service.write(service.archive.wait_again, id)
    service.recognize_kept(id)
    return one.summary()


@router.put("/v1/recordings/{id}/segments/{segment}", response_model=None)
async def put_segment(request: Request, id: str, segment: str, body: Change) -> Any:
    """Change a segment, or add one. Status 409, with the segment as it is, if somebody else changed it since `base`."""
    service = service_of(request)
    _find(request, id)
    who, key = " ".join(body.who.split()), request.state.who
    who = f"{who} ({key})" if key and who and who != key else who or key
    try:
        change = partial(service.archive.change, start=body.start, end=body.end, text=body.text, state=body.state)
        after = await service.write(change, id, segment, body.base, who)
    except ConflictError as conflict:
        return JSONResponse(conflict.current.to_dict(), 409)
    service.manifests_soon()
    return after.to_dict()


@router.get("/v1/recordings/{id}/audio", response_class=FileResponse)
async def audio(request: Request, id: str) -> FileResponse:
    """The recording as FLAC, with ranges."""
    path = _find(request, id).folder / "playback.flac"
    if not path.is_file():
        raise HTTPException(404, "there is no audio to play yet")
    return FileResponse(path, media_type="audio/flac", headers={"Cache-Control": "private, max-age=86400"})


@router.get("/v1/recordings/{id}/download", response_class=Response)
async def get_download(
    request: Request, id: str, format: Annotated[str, Query(description=", ".join(SUFFIXES))] = "text"
) -> Response:
    """The present text as a file."""
    one = _find(request, id)
    if format not in SUFFIXES:
        raise HTTPException(400, f"format is one of {', '.join(SUFFIXES)}")
    content = await asyncio.to_thread(download, one, format)
    name = quote(one.name.rsplit(".", 1)[0] + SUFFIXES[format])
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/v1/corrections")
async def corrections(request: Request) -> dict[str, Any]:
    """How much speech is confirmed, its manifest, and the command that trains on it."""
    service = service_of(request)
    await service.write_manifests()
    return await service.write(service.archive.corrections)


def letters_of_labels(labels: Sequence[str]) -> list[str]:
    """What a person may have to type: the grapheme clusters of a model's labels, those beyond ASCII first."""
    found = {cluster for label in labels for cluster in regex.findall(r"\X", label) if not cluster.isspace()}
    return sorted(found, key=lambda cluster: (cluster.isascii(), cluster))


def _find(request: Request, id: str) -> Recording:
    """Raises HTTPException (404)."""
    service: Service = service_of(request)
    try:
        return service.archive.get(id)
    except KeyError:
        raise HTTPException(404, "there is no such recording") from None
