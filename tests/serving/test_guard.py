"""Who may ask: keys, hosts, origins, rates; and how a server is started."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.command_line import anadil, fails
from tests.support.server import Running, running, sound

KEY, OTHER = "0123456789abcdef0123", "fedcba98765432100000"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"radio {KEY}\narchive {OTHER}\n")
    return file


@pytest.fixture(scope="module")
def guarded(exported: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on all addresses of the machine, with keys, 50 requests per minute, and one other origin."""
    arguments = (
        exported,
        "--host",
        "0.0.0.0",
        "--api-key-file",
        keys,
        "--rate-limit",
        "50",
        "--cors",
        "https://radio.example",
    )
    with running(*arguments, "--workers", "1", data=tmp_path_factory.mktemp("guarded") / "data") as one:
        one.url = one.url.replace("0.0.0.0", "127.0.0.1")
        one.client = httpx.Client(base_url=one.url, timeout=60, trust_env=False)
        yield one


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_key_only_the_page_and_supervision_are_open(guarded: Running) -> None:
    for path in ("/", "/page/app.js", "/health", "/ready"):
        assert guarded.get(path).status_code == 200, path
    for path in ("/v1/models", "/v1/recordings", "/v1/page", "/metrics", "/docs", "/openapi.json", "/v1/corrections"):
        answer = guarded.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
    answer = guarded.transcribe(sound("abc"))
    assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
    with pytest.raises(InvalidStatus):
        connect(guarded.url.replace("http", "ws") + "/v1/stream", proxy=None)


def test_a_key_opens_and_is_revoked_without_a_restart(guarded: Running, keys: Path) -> None:
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=OTHER, max_retries=0)
    assert [one.id for one in client.models.list()] == ["micro"]
    with connect(guarded.url.replace("http", "ws") + "/v1/stream", proxy=None, additional_headers=bearer(KEY)):
        pass
    keys.write_text(f"radio {KEY}\n")
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
    assert guarded.get("/v1/models", headers=bearer(KEY)).status_code == 200
    assert guarded.has_logged("key radio") and KEY not in guarded.log


def test_the_page_keeps_its_key_in_a_cookie(guarded: Running) -> None:
    with httpx.Client(base_url=guarded.url, trust_env=False) as one:
        assert one.post("/v1/session", json={"key": "wrong"}).status_code == 401
        answer = one.post("/v1/session", json={"key": KEY})
        assert answer.json() == {"who": "radio"}
        assert {"HttpOnly", "SameSite=strict"} <= set(answer.headers["set-cookie"].split("; "))
        assert one.get("/v1/page").json()["who"] == "radio"


def test_origins(guarded: Running) -> None:
    allowed = guarded.get("/v1/models", headers=bearer(KEY) | {"Origin": "https://radio.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://radio.example"
    asked = {
        "Origin": "https://radio.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert guarded.client.options("/v1/audio/transcriptions", headers=asked).status_code == 200
    refused = guarded.get("/v1/models", headers=bearer(KEY) | {"Origin": "https://elsewhere.example"})
    assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers


def test_each_key_has_its_rate(guarded: Running) -> None:
    statuses = [guarded.get("/v1/models", headers=bearer(KEY)).status_code for _ in range(60)]
    assert 429 in statuses
    answer = guarded.get("/v1/models", headers=bearer(KEY))
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert guarded.get("/health").status_code == 200


def test_a_page_that_calls_itself_by_another_name_is_refused(server: Running) -> None:
    """DNS rebinding: the name of a hostile site points to 127.0.0.1."""
    answer = server.get("/v1/recordings", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    for host in ("localhost:99", "127.0.0.1", "[::1]:8321"):
        assert server.get("/v1/recordings", headers={"Host": host}).status_code == 200


def test_a_form_of_another_site_is_refused(server: Running) -> None:
    answer = server.client.post(
        "/v1/recordings", files={"file": ("a.wav", sound("abc"))}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in server.get("/v1/models").headers


def test_headers_of_answers(server: Running) -> None:
    headers = server.get("/").headers
    assert "script-src" not in headers["content-security-policy"]  # default-src 'self' holds for scripts: none inline
    assert headers["x-content-type-options"] == "nosniff" and "server" not in headers


def test_bodies_of_other_routes_are_small(server: Running) -> None:
    answer = server.client.post(
        "/v1/session", content=b"{" + b" " * 2**21, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_no_file_of_the_server_is_served(server: Running) -> None:
    for path in (
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/v1/recordings/..%2f..",
        "/v1/recordings/../../x/audio",
    ):
        assert server.get(path).status_code in (404, 405), path


def test_recordings_that_are_not_there(server: Running) -> None:
    for path in ("", "/audio", "/download"):
        assert server.get(f"/v1/recordings/none{path}").status_code == 404
    body = {"start": 0, "end": 1, "text": "a", "state": "draft", "base": 0}
    assert server.client.put("/v1/recordings/none/segments/s0", json=body).status_code == 404
    answer = server.client.put("/v1/recordings/none/segments/s0", json=body | {"state": "x"})
    assert answer.status_code == 422 and "state" in answer.json()["error"]["message"]


def test_the_api_of_the_page(server: Running) -> None:
    """Upload, wait, correct, conflict, download, delete: what the page does, without a browser."""
    one = server.client.post(
        "/v1/recordings", files={"file": ("köy.wav", sound("abc cab"))}, data={"model": "other"}
    ).json()
    url = f"/v1/recordings/{one['id']}"
    ended = threading.Event()
    while (found := server.get(url).json())["state"] == "waiting":
        ended.wait(0.1)
    assert found["state"] == "done" and found["model"] == "other" and found["peaks"]
    assert server.get(f"{url}?after={found['version']}").status_code == 204
    part = server.get(f"{url}/audio", headers={"Range": "bytes=0-3"})
    assert part.status_code == 206 and part.content == b"fLaC"
    segment = found["segments"][0]
    body = {
        "start": segment["start"],
        "end": segment["end"],
        "text": "ab",
        "state": "confirmed",
        "base": 0,
        "who": "Oya",
    }
    after = server.client.put(f"{url}/segments/{segment['id']}", json=body).json()
    assert (after["text"], after["who"], after["revision"]) == ("ab", "Oya", 1)
    conflict = server.client.put(f"{url}/segments/{segment['id']}", json=body | {"text": "c"})
    assert conflict.status_code == 409 and conflict.json()["text"] == "ab"
    download = server.get(f"{url}/download?format=srt")
    assert "ab" in download.text and "k%C3%B6y.srt" in download.headers["content-disposition"]
    assert server.get(f"{url}/download?format=docx").status_code == 400
    corrections = server.get("/v1/corrections").json()
    assert corrections["n_segments"] >= 1 and '"ab"' in Path(corrections["manifest"]).read_text()
    assert server.client.post(f"{url}/recognize").status_code == 409
    assert server.client.delete(url).status_code == 204 and server.get(url).status_code == 404


def test_other_machines_need_keys(exported: Path, tmp_path: Path) -> None:
    message = fails("serve", exported, "--host", "0.0.0.0", "--data", tmp_path / "d", "--port", "0")
    assert "needs keys" in message and "--api-key-file" in message


def test_what_a_server_cannot_start_with(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no model" in fails("serve", tmp_path / "empty", "--data", tmp_path / "d")
    assert "two models are called 'micro'" in fails("serve", exported, exported, "--data", tmp_path / "d")
    assert "model not found" in fails("serve", "a=/nowhere", "--data", tmp_path / "d")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "choose another --port" in fails("serve", exported, "--data", tmp_path / "d", "--port", port)
    assert anadil("serve", exported, "--port", "99999").exit_code == 2
    (tmp_path / "file").write_text("")
    assert "choose another --data" in fails("serve", exported, "--data", tmp_path / "file", "--port", "0")
