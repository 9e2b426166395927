"""WebSocket /v1/stream: samples in, partial and final results out as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Literal

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.exceptions import HTTPException

from anadil.errors import AnadilError
from anadil.serving.child import ChildDiedError
from anadil.serving.models import BusyError, Stream
from anadil.serving.service import Service
from anadil.serving.transcriptions import find_model

router = APIRouter()

_IDLE_S = 60.0
_BAD_DATA, _TOO_MUCH, _TRY_AGAIN, _LOST = 1003, 1009, 1013, 1011
"""Codes of WebSocket's close (RFC 6455, 7.4)."""


class _RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@router.websocket("/v1/stream")
async def stream(
    socket: WebSocket,
    model: str = "",
    sample_rate: int = 16000,
    encoding: Literal["pcm16", "float32"] = "pcm16",
) -> None:
    """Binary messages are mono samples, little-endian. The text message {"type": "finish"} ends the stream.

    Answers {"type": "partial" | "final", "text", "words", "start", "end"}, at the end {"type": "done"}; what goes wrong is
    {"type": "error", "message"} before the socket is closed.
    """
    service: Service = socket.app.state.service
    await socket.accept()
    try:
        try:
            with service.streams.place(), service.metrics.streams.track_inprogress():
                await _converse(socket, service, model or service.default, sample_rate, encoding)
        except BusyError as busy:
            raise _RefusedError(_TRY_AGAIN, str(busy)) from busy
        except (AnadilError, HTTPException) as error:
            raise _RefusedError(_BAD_DATA, getattr(error, "detail", str(error))) from error
        except ChildDiedError as death:
            raise _RefusedError(_LOST, "the process of this stream died; open another one") from death
        except TimeoutError as late:
            raise _RefusedError(_TRY_AGAIN, f"nothing came for {_IDLE_S:.0f} s") from late
    except _RefusedError as refusal:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_json({"type": "error", "message": str(refusal)})
            await socket.close(refusal.code)
    except (WebSocketDisconnect, RuntimeError):  # RuntimeError: sent after the client went
        pass


async def _converse(socket: WebSocket, service: Service, name: str, sample_rate: int, encoding: str) -> None:
    opened = await find_model(service, name).stream(sample_rate)
    try:
        n_samples = 0
        while True:
            message = await asyncio.wait_for(socket.receive(), _IDLE_S)
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                samples = _samples(message["bytes"], encoding)
                n_samples += len(samples)
                if n_samples > service.limits.max_s * sample_rate:
                    raise _RefusedError(_TOO_MUCH, f"longer than the allowed {service.limits.max_s:,.0f} s")
                for result in await opened.feed(samples):
                    await socket.send_json(result)
            elif _is_finish(message.get("text")):
                await _finish(socket, opened)
                return
    finally:
        await opened.forget()


async def _finish(socket: WebSocket, opened: Stream) -> None:
    for result in await opened.finish():
        await socket.send_json(result)
    await socket.send_json({"type": "done"})
    await socket.close()


def _samples(data: bytes, encoding: str) -> np.ndarray:
    """float32 (samples,) in [-1, 1]. Raises _RefusedError."""
    kind = np.dtype("<i2" if encoding == "pcm16" else "<f4")
    if len(data) % kind.itemsize:
        raise _RefusedError(_BAD_DATA, f"{len(data)} bytes are no whole number of samples in {encoding}")
    samples = np.frombuffer(data, dtype=kind)
    if encoding == "pcm16":
        return np.asarray(samples.astype(np.float32) / 32768)
    if not np.isfinite(samples).all():
        raise _RefusedError(_BAD_DATA, "samples that are not numbers")
    return np.asarray(np.clip(samples, -1, 1), dtype=np.float32)


def _is_finish(text: str | None) -> bool:
    """Whether a text message ends the stream. Raises _RefusedError for any other."""
    with contextlib.suppress(ValueError):
        if json.loads(text or "") == {"type": "finish"}:
            return True
    raise _RefusedError(_BAD_DATA, 'expected samples as binary messages, or {"type": "finish"}')
