"""`anadil push` against a hub on this machine, which speaks as much of the hub's protocol as an upload needs."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import fails, succeeds

pytest.importorskip("huggingface_hub", reason="the extra hf is not installed: pip install 'anadil[hf]'")


@dataclass
class Hub:
    token: str = "hf_right"
    url: str = ""
    made: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # by SHA-256
    status: int | None = None  # answers everything with this


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"error": "refused"} if self.hub.status else {"id": "ayse/asr"}, self.hub.status or 200)

    def do_PUT(self) -> None:
        content = self._body()
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.hub.status or self.headers["Authorization"] != f"Bearer {self.hub.token}":
            self._answer({"error": "refused"}, self.hub.status or 401)
        elif self.path == "/api/repos/create":
            self.hub.made.append(json.loads(body))
            self._answer({"url": f"{self.hub.url}/ayse/asr"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            mode = {True: "lfs", False: "regular"}
            answer = [
                {"path": one["path"], "uploadMode": mode[one["path"].endswith(".onnx")], "shouldIgnore": False}
                for one in files
            ]
            self._answer({"files": answer})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/large"}}} for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                record = json.loads(line)
                value = record["value"]
                if record["key"] == "file":
                    self.hub.files[value["path"]] = base64.b64decode(value["content"])
                elif record["key"] == "lfsFile":
                    self.hub.files[value["path"]] = self.hub.large[value["oid"]]
            self._answer({"commitUrl": f"{self.hub.url}/ayse/asr/commit/1", "commitOid": "1" * 40})
        else:
            self._answer({"errors": [], "warnings": []})

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, data: Any, status: int = 200) -> None:
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    state = Hub()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.hub = state  # type: ignore[attr-defined]
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.setenv("HF_TOKEN", state.token)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield state
        listening.shutdown()
        thread.join()


def test_an_exported_folder_arrives_whole_and_nothing_else(tmp_path: Path, exported: Path, hub: Hub) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    (folder / "passwords.txt").write_text("mine")
    result = succeeds("push", folder, "ayse/asr", "--private")
    assert result.stdout.strip() == f"{hub.url}/ayse/asr"
    assert hub.files == {path.name: path.read_bytes() for path in exported.iterdir()}
    assert (hub.made[0]["name"], hub.made[0]["organization"]) == ("asr", "ayse")
    assert "passwords.txt" in result.stderr and "names no licence" in result.stderr


def test_a_model_folder_can_be_pushed(micro: Path, hub: Hub) -> None:
    succeeds("push", micro / "run/best", "ayse/asr")
    assert {"model.safetensors", "config.yaml", "README.md"} <= set(hub.files)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_the_hub_refuses(exported: Path, hub: Hub, status: int) -> None:
    hub.status = status
    message = fails("push", exported, "ayse/asr")
    assert f"refused the token (status {status})\n  next: make a token" in message


def test_a_hub_that_fails_or_is_not_there(exported: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.status = 400
    assert "the hub answered with status 400" in fails("push", exported, "ayse/asr")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached" in fails("push", exported, "ayse/asr")


def test_without_a_token_nothing_is_sent(
    exported: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "no token for the hub was found\n  next: " in fails("push", exported, "ayse/asr")
    assert hub.made == []


def test_what_is_no_model_or_no_repository_is_refused(tmp_path: Path, exported: Path, hub: Hub) -> None:
    assert "is no model folder" in fails("push", tmp_path / "none", "ayse/asr")
    for repo in ("asr", "a/b/c", "../x", "a/..", ""):
        assert "next: give USER/NAME" in fails("push", exported, repo)
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy/README.md").unlink()
    assert re.search(r"has no card \(README.md\)\n  next", fails("push", tmp_path / "copy", "ayse/asr"))
    assert hub.made == []
