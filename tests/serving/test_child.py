"""A process that answers questions, killed at different moments."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from anadil.serving.child import Child, ChildDiedError

MODULE = """
import os, sys
from anadil.serving.child import answer_questions

def answer(question):
    if question.get("die"):
        os._exit(3)
    return {"pid": os.getpid()}

if "broken" in sys.argv:
    sys.exit(4)
answer_questions(answer)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "a_child.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "a_child"


def test_a_process_killed_while_idle_is_not_blamed_on_the_question(module: str) -> None:
    async def work() -> None:
        deaths: list[str] = []
        child = Child(module, [], deaths.append)
        first = (await child.ask({}, 30))["pid"]
        os.kill(first, signal.SIGKILL)  # asyncio has not noticed it when the question comes
        assert (await child.ask({}, 30))["pid"] != first
        assert len(deaths) == 1
        await child.close()

    asyncio.run(work())


def test_a_question_that_kills_is_not_asked_again(module: str) -> None:
    async def work() -> None:
        deaths: list[str] = []
        child = Child(module, [], deaths.append)
        await child.ask({}, 30)
        with pytest.raises(ChildDiedError, match="exit status is 3"):
            await child.ask({"die": True}, 30)
        assert deaths == ["exit status 3"]
        await child.close()

    asyncio.run(work())


def test_a_process_that_cannot_start_is_tried_once(module: str) -> None:
    async def work() -> None:
        deaths: list[str] = []
        child = Child(module, ["broken"], deaths.append)
        with pytest.raises(ChildDiedError, match="exit status is 4"):
            await child.ask({}, 30)
        assert deaths == ["exit status 4"]

    asyncio.run(work())
