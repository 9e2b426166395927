"""Forms as they arrive in pieces of any size, whole or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.serving.uploads import BadUploadError, Spool, Upload, plain_name, receive_upload

TYPE = "multipart/form-data; boundary=xyz"


def form(*parts: tuple[str, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts) + end


FILE = 'Content-Disposition: form-data; name="file"; filename="{}"'
FIELD = 'Content-Disposition: form-data; name="{}"'


def receive(body: bytes, spool: Spool, size: int = 7, kind: str = TYPE) -> tuple[Upload, bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    with spool.place() as folder, spool.reserved() as reservation:
        upload = asyncio.run(receive_upload(chunks(), kind, folder, reservation))
        return upload, upload.path.read_bytes()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 2**20)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_fields_and_a_file_in_any_order(spool: Spool, size: int) -> None:
    content = bytes(range(256)) * 8 + b"\r\n--xy"
    body = form(
        (FIELD.format("model"), b"a"),
        (FILE.format("a.wav"), content),
        (FIELD.format("x[]"), "ı".encode()),
        (FIELD.format("x[]"), b"2"),
    )
    upload, found = receive(body, spool, size)
    assert found == content and upload.n_bytes == len(content)
    assert (
        upload.fields == {"model": ["a"], "x": ["ı", "2"]} and upload.name == "a.wav" and upload.path.suffix == ".wav"
    )
    assert not any(spool.folder.iterdir()) and spool.n_bytes == 0


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (form((FIELD.format("model"), b"a")), 400, "the form has no file"),
        (form((FILE.format("a"), b"1"), (FILE.format("b"), b"2")), 400, "one file is expected"),
        (form((FILE.format("a"), b"1"))[:-12], 400, "ends before its last boundary"),
        (b"nothing", 400, "the form is malformed"),
        (form(*[(FIELD.format("a"), b"1")] * 51), 400, "more than 50 fields"),
        (form((FIELD.format("a"), b"1" * 70_000)), 413, "more than 65,536 bytes"),
        (form((FILE.format("a"), b"1" * 2**21)), 503, "too many uploads"),
        (b"--xyz\r\n" + b"A: b\r\n" * 1000, 400, "the form is malformed"),
    ],
)  # fmt: skip
def test_other_bodies(spool: Spool, body: bytes, status: int, message: str) -> None:
    with pytest.raises(BadUploadError, match=message) as error:
        receive(body, spool, 4096)
    assert error.value.status == status
    assert not any(spool.folder.iterdir()) and spool.n_bytes == 0


def test_another_type(spool: Spool) -> None:
    with pytest.raises(BadUploadError, match="multipart/form-data"):
        receive(b"x", spool, kind="application/json")


@given(st.binary(max_size=300), st.integers(1, 50))
def test_random_bytes_are_a_bad_upload(tmp_path_factory: pytest.TempPathFactory, body: bytes, size: int) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "random", 2**20)
    with pytest.raises(BadUploadError):
        receive(b"--xyz\r\n" + body, spool, size)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.wav", "b.wav"),
        ("", "recording"),
        ("a\x00\nb.wav", "ab.wav"),
        ("..", ".."),
    ],
)
def test_names_have_no_folders(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_the_spool_is_emptied_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spool/left").mkdir(parents=True)
    Spool(tmp_path / "spool", 1)
    assert not any((tmp_path / "spool").iterdir())
