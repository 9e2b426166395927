from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from tests.support.server import Running, running


@pytest.fixture(scope="session")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the micro model under the names micro and other. Tests do not end or break it."""
    folder = tmp_path_factory.mktemp("served") / "data"
    with running(exported, f"other={exported}", "--rate-limit", "0", "--workers", "1", data=folder) as one:
        yield one
