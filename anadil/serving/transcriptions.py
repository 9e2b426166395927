"""POST /v1/audio/transcriptions and GET /v1/models, as OpenAI's API has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from anadil.audio import Channel, parse_channel
from anadil.decoding.transcript import Word
from anadil.errors import AnadilError
from anadil.serving.child import ChildDiedError
from anadil.serving.models import BusyError, Model
from anadil.serving.replies import FORMS, Form, error_body, event, transcription
from anadil.serving.service import ClientGoneError, Service, is_disk_full, while_connected
from anadil.serving.uploads import BadUploadError, Upload, receive_upload

log = logging.getLogger("anadil.serve")
router = APIRouter()

_FIELDS = {
    "model", "language", "response_format", "timestamp_granularities", "stream", "temperature", "chunking_strategy", "channel",
}  # fmt: skip
_OTHER_FIELDS = {"prompt", "include", "keywords", "languages", "known_speaker_names", "known_speaker_references"}
"""Of OpenAI's API; they would have no effect here, so they are refused."""

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "A recording."},
                        "model": {"type": "string", "description": "A name of /v1/models; without it, the first one."},
                        "response_format": {"type": "string", "enum": list(FORMS), "default": "json"},
                        "timestamp_granularities[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": ["word", "segment"]},
                            "description": "For verbose_json; segment alone if it is not given.",
                        },
                        "stream": {"type": "boolean", "default": False, "description": "Server-sent events."},
                        "language": {"type": "string", "description": "Must be the model's own."},
                        "channel": {
                            "type": "string",
                            "default": "mix",
                            "description": "mix, left, right or a number from 1.",
                        },
                    },
                }
            }
        },
    }
}


@router.get("/v1/models", tags=["OpenAI"])
async def models(request: Request) -> dict[str, Any]:
    """The names of the models."""
    return {"object": "list", "data": [_described(model) for model in service_of(request).models.values()]}


@router.get("/v1/models/{name:path}", tags=["OpenAI"])
async def model(request: Request, name: str) -> dict[str, Any]:
    """One model."""
    return _described(find_model(service_of(request), name))


def _described(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "anadil", "loaded": model.is_loaded}


@router.post("/v1/audio/transcriptions", tags=["OpenAI"], openapi_extra=_FORM, response_model=None)
async def transcriptions(request: Request) -> Response:
    """Transcribe a recording."""
    service = service_of(request)
    service.queue.refuse_if_full()  # before the upload is read
    with contextlib.ExitStack() as stack:
        upload = await receive_file(request, stack)
        options = _options(upload, service)
        facts = await options.model.facts()
        if (
            options.language
            and facts.language
            and options.language.partition("-")[0] != facts.language.partition("-")[0]
        ):
            raise BadUploadError(
                400, f"the language of this model is {facts.language!r}, not {options.language[:50]!r}"
            )
        if options.stream:
            return _EventResponse(_events(service, upload, options, facts.joiner), stack.pop_all())
        work = service.transcribe(upload.path, upload.name, upload.path.parent, options.model, options.channel)
        transcript = await while_connected(request.receive, work)
        content, kind = transcription(transcript, options.form, options.granularities)
        return Response(content, media_type=kind)


async def receive_file(request: Request, stack: contextlib.ExitStack) -> Upload:
    """The form of a request, with its file in a folder that is deleted with `stack`. Raises BadUploadError, OSError."""
    service = service_of(request)
    folder = stack.enter_context(service.spool.place())
    reservation = stack.enter_context(service.spool.reserved())
    return await receive_upload(request.stream(), request.headers.get("content-type", ""), folder, reservation)


class _EventResponse(StreamingResponse):
    """Server-sent events; `stack` is closed at their end, also if the client goes away before the first."""

    def __init__(self, events: AsyncIterator[bytes], stack: contextlib.ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._stack = stack

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._stack:
            await super().__call__(scope, receive, send)


@dataclass(frozen=True)
class _Options:
    """The fields of a form, checked."""

    model: Model
    form: Form
    granularities: list[str]
    stream: bool
    channel: Channel
    language: str


def _options(upload: Upload, service: Service) -> _Options:
    """Raises BadUploadError for a value that is not possible or would have no effect."""
    fields = upload.fields
    for name in fields:
        if name in _OTHER_FIELDS and any(fields[name]):
            raise BadUploadError(400, f"{name!r} has no effect on a model of Anadil; leave it out")
        if name not in _FIELDS | _OTHER_FIELDS:
            raise BadUploadError(400, f"unknown field {name[:50]!r}; known are: file, {', '.join(sorted(_FIELDS))}")
    form = _one(fields, "response_format", "json")
    if form not in FORMS:
        raise BadUploadError(400, f"response_format {form[:50]!r} is not one of {', '.join(FORMS)}")
    stream = _one(fields, "stream", "false").lower()
    if stream not in ("true", "false"):
        raise BadUploadError(400, "stream is true or false")
    if stream == "true" and form not in ("json", "text"):
        raise BadUploadError(400, "a stream has the response_format json or text")
    granularities = fields.get("timestamp_granularities", ["segment"])
    if not set(granularities) <= {"word", "segment"}:
        raise BadUploadError(400, "timestamp_granularities are word and segment")
    if "timestamp_granularities" in fields and form != "verbose_json":
        raise BadUploadError(400, "timestamp_granularities need the response_format verbose_json")
    if _one(fields, "temperature", "0") not in ("0", "0.0"):
        raise BadUploadError(400, "temperature has no effect on a model of Anadil; leave it out")
    if _one(fields, "chunking_strategy", "auto") != "auto":
        raise BadUploadError(400, "chunking_strategy can only be auto: recordings are cut at pauses")
    model = find_model(service, _one(fields, "model", service.default))
    try:
        channel = parse_channel(_one(fields, "channel", "mix"))
    except ValueError as error:
        raise BadUploadError(400, f"channel: {error}") from None
    return _Options(model, form, granularities, stream == "true", channel, _one(fields, "language", ""))


def _one(fields: dict[str, list[str]], name: str, default: str) -> str:
    values = fields.get(name, [])
    if len(values) > 1:
        raise BadUploadError(400, f"{name!r} is there {len(values)} times")
    return values[0] if values and values[0] else default


async def _events(service: Service, upload: Upload, options: _Options, joiner: str) -> AsyncIterator[bytes]:
    """Events of a stream: what is added to the text, in order, then the whole text."""
    queue = asyncio.Queue[bytes | None]()
    is_first = True

    def on_words(words: Sequence[Word]) -> None:
        nonlocal is_first
        if words:
            delta = joiner.join(word.text for word in words)
            queue.put_nowait(event({"type": "transcript.text.delta", "delta": delta if is_first else joiner + delta}))
            is_first = False

    async def work() -> None:
        try:
            transcript = await service.transcribe(
                upload.path, upload.name, upload.path.parent, options.model, options.channel, on_words
            )
            queue.put_nowait(event({"type": "transcript.text.done", "text": transcript.text}))
        except Exception as error:
            queue.put_nowait(b"data: " + error_body(*explain(error)) + b"\n\n")
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(work())
    try:
        while (item := await queue.get()) is not None:
            yield item
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def find_model(service: Service, name: str) -> Model:
    """Raises HTTPException (404) if there is no model of that name."""
    if name not in service.models:
        known = ", ".join(service.models)
        raise HTTPException(404, f"there is no model {name[:100]!r}; there are: {known}")
    return service.models[name]


def explain(error: BaseException) -> tuple[int, str]:
    """The HTTP status and the message of what went wrong."""
    if isinstance(error, BadUploadError):
        return error.status, str(error)
    if isinstance(error, BusyError):
        return 429, str(error)
    if isinstance(error, AnadilError):
        return 422, str(error)
    if isinstance(error, ChildDiedError):
        return 503, "the process that was to answer died; try again"
    if isinstance(error, TimeoutError):
        return 503, "it took too long"
    if isinstance(error, OSError) and is_disk_full(error):
        return 507, "the disk of the server is full"
    if isinstance(error, ClientGoneError):
        return 499, "the client has gone"
    log.error("an error of the server", exc_info=error)
    return 500, "an error of the server; its log says more"


async def answer_error(request: Request, error: Exception) -> Response:
    """For FastAPI: the response to an exception."""
    if isinstance(error, HTTPException):
        return Response(
            error_body(error.status_code, str(error.detail)), error.status_code, error.headers, "application/json"
        )
    if isinstance(error, RequestValidationError):
        message = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return Response(error_body(422, message), 422, media_type="application/json")
    status, message = explain(error)
    headers = {"Retry-After": str(round(error.retry_s))} if isinstance(error, BusyError) else {}
    if status == 503:
        headers["Retry-After"] = "2"
    return Response(error_body(status, message), status, headers, "application/json")
