"""Keys and the rate limit."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.serving.guard import presented_key
from anadil.serving.keys import Keys, RateLimit

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"


def test_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    hashed = hashlib.sha256(SECOND.encode()).hexdigest()
    file.write_text(f"# who may\nradio {FIRST}\n\narchive sha256:{hashed}\n")
    keys = Keys(file)
    assert keys.required
    assert (keys.name_of(FIRST), keys.name_of(SECOND)) == ("radio", "archive")
    assert keys.name_of(FIRST[:-1]) is None and keys.name_of("") is None and keys.name_of(hashed) is None


def test_a_key_is_revoked_and_added_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"radio {FIRST}\nold {SECOND}\n")
    keys = Keys(file)
    file.write_text(f"radio {FIRST}\n")
    assert keys.name_of(SECOND) is None and keys.name_of(FIRST) == "radio"
    file.write_text("radio short\n")  # half written: what was there stays
    os.utime(file, ns=(1, 1))
    assert keys.name_of(FIRST) == "radio" and "at least 16" in keys.problem
    file.unlink()
    assert keys.name_of(FIRST) is None and keys.required


def test_keys_of_the_environment() -> None:
    keys = Keys(None, f"radio {FIRST},archive {SECOND}")
    assert keys.name_of(SECOND) == "archive"
    assert not Keys(None, None).required


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("radio short", "has 5 characters, at least 16"),
        ("radio", "1 words"),
        (f"a {FIRST}\na {SECOND}", ":2: the name 'a' is there already"),
        ("# nobody", "no keys"),
        ("a sha256:12", "64 hexadecimal digits"),
    ],
)
def test_a_malformed_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(AnadilError, match=message):
        Keys(tmp_path / "keys")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="the keys cannot be read"):
        Keys(tmp_path / "keys")


def test_all_keys_are_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or real(a, b))
    Keys(None, f"radio {FIRST},archive {SECOND}").name_of(FIRST)
    assert len(compared) == 2  # also those after the one that fits


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({b"authorization": b"Bearer abc"}, "abc"),
        ({b"authorization": b"bearer  abc "}, "abc"),
        ({b"authorization": b"Basic abc"}, ""),
        ({b"cookie": b"a=b; anadil_key=abc"}, "abc"),
        ({b"cookie": b"xanadil_key=abc"}, ""),
        ({}, ""),
    ],
)
def test_the_key_of_a_request(headers: dict[bytes, bytes], key: str) -> None:
    assert presented_key(headers) == key


def test_rate_limit() -> None:
    limit = RateLimit(60)
    assert [limit.wait_s("a", now=0.0) for _ in range(60)] == [0.0] * 60
    assert limit.wait_s("a", now=0.0) == 1.0
    assert limit.wait_s("b", now=0.0) == 0.0
    assert limit.wait_s("a", now=0.5) == 0.5
    assert limit.wait_s("a", now=1.0) == 0.0
    assert RateLimit(0).wait_s("a") == 0.0


def test_the_rate_limit_does_not_grow_with_its_clients() -> None:
    limit = RateLimit(60)
    for number in range(RateLimit._MOST_NAMES + 10):
        limit.wait_s(str(number), now=0.0)
    assert len(limit._left) == RateLimit._MOST_NAMES
