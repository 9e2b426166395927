"""How pieces of speech are taken from a queue, and what happens when the process dies over them."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from anadil.decoding.transcript import Word
from anadil.errors import AnadilError
from anadil.serving.child import ChildDiedError
from anadil.serving.models import (
    BATCH_S,
    SEARCHED_S,
    Job,
    Lane,
    LaneClosedError,
    Piece,
    take_by_length,
    take_in_turns,
)

RATE = 1000


def job(*seconds: float) -> Job:
    ends = [round(sum(seconds[: i + 1]) * RATE) for i in range(len(seconds))]
    pieces = [(start, end, 0) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return Job(Path("samples"), pieces, RATE, done=asyncio.Future(loop=asyncio.new_event_loop()))


def queue(*jobs: Job) -> deque[Piece]:
    return deque(Piece(one, index) for one in jobs for index in range(len(one.pieces)))


def test_pieces_of_like_length_go_together() -> None:
    waiting = queue(job(3.0), job(10.0), job(2.9), job(3.1), job(0.5))
    assert [piece.seconds for piece in take_by_length(waiting)] == [3.0, 2.9, 3.1, 0.5]
    assert [piece.seconds for piece in waiting] == [10.0]


def test_a_batch_is_bounded_with_its_padding() -> None:
    waiting = queue(*(job(3.0) for _ in range(20)))
    assert len(take_by_length(waiting)) == BATCH_S // 3 and len(waiting) == 20 - BATCH_S // 3
    waiting = queue(job(20.0), job(20.0))
    assert len(take_by_length(waiting)) == 1  # however long it is


def test_a_search_takes_more_at_a_time_but_no_more_than_the_share_of_a_process() -> None:
    waiting = queue(*(job(3.0) for _ in range(40)))
    assert len(take_by_length(waiting, SEARCHED_S)) == SEARCHED_S // 3
    waiting = queue(*(job(3.0) for _ in range(40)))
    assert len(take_by_length(waiting, SEARCHED_S, 20)) == 20 and len(waiting) == 20


def test_the_first_is_never_passed_over() -> None:
    waiting = queue(job(10.0), *(job(1.0) for _ in range(50)))
    assert take_by_length(waiting)[0].seconds == 10.0


def test_long_recordings_take_turns() -> None:
    first, second = job(*[8.0] * 6), job(*[8.0] * 3)
    waiting, order = queue(first, second), []
    while waiting:
        batch = take_in_turns(waiting)
        assert len({id(piece.job) for piece in batch}) == 1
        order.append(("first" if batch[0].job is first else "second", [piece.index for piece in batch]))
    assert order == [("first", [0, 1, 2]), ("second", [0, 1, 2]), ("first", [3, 4, 5])]


def test_a_piece_over_which_a_process_died_is_taken_alone() -> None:
    for take in (take_by_length, take_in_turns):
        waiting = queue(job(3.0, 3.0), job(3.0))
        waiting[0].tried = 1
        assert len(take(waiting)) == 1 and len(waiting) == 2


class FakeChild:
    """Answers with the number of each piece; dies over the jobs in `deadly`."""

    def __init__(self, deadly: tuple[Path, ...] = (), error: Exception | None = None) -> None:
        self.deadly, self.error, self.asked = deadly, error, 0
        self.sizes: list[int] = []  # of the batches
        self.before: Any = None  # awaited once, before the first answer

    async def ask(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.asked += 1
        self.sizes.append(len(question["pieces"]))
        await asyncio.sleep(0)
        if self.before is not None:
            before, self.before = self.before, None
            await before
        if any(Path(path) in self.deadly for path, _, _ in question["pieces"]):
            raise self.error or ChildDiedError("killed")
        if self.error and not self.deadly:
            raise self.error
        return {"words": [[[f"w{start}", start / RATE, end / RATE, 1.0]] for _, start, end in question["pieces"]]}

    async def close(self) -> None:
        pass


def make(path: str, *seconds: float) -> Job:
    pieces, start = [], 0
    for one in seconds:
        pieces.append((start, start + round(one * RATE), 0))
        start = pieces[-1][1]
    return Job(Path(path), pieces, RATE)


def test_words_come_back_in_order() -> None:
    async def run() -> list[str]:
        lane = Lane([FakeChild(), FakeChild()], in_turns=False)  # type: ignore[list-item]
        words = await lane.recognize(make("a", 3.0, 1.0, 9.0))
        await lane.close()
        return [word.text for word in words]

    assert asyncio.run(run()) == ["w0", "w3000", "w4000"]


def test_processes_that_have_nothing_to_do_share_what_waits() -> None:
    async def run() -> list[list[int]]:
        children = [FakeChild(), FakeChild()]
        lane = Lane(children, in_turns=False, batch_s=SEARCHED_S)  # type: ignore[arg-type]
        await lane.recognize(make("a", *[3.0] * 10))
        await lane.close()
        return [child.sizes for child in children]

    assert asyncio.run(run()) == [[5], [5]]


@pytest.mark.parametrize(("n_coming", "sizes"), [(8, [[1], [2]]), (0, [[1], [1, 1]])])
def test_a_process_waits_for_more_while_another_one_works(n_coming: int, sizes: list[list[int]]) -> None:
    async def run() -> list[list[int]]:
        children, release = [FakeChild(), FakeChild()], asyncio.Event()
        for child in children:
            child.before = release.wait() if child is children[0] else None
        lane = Lane(children, False, SEARCHED_S, lambda: n_coming)  # type: ignore[arg-type]
        found = []
        for number in range(3):
            found.append(asyncio.create_task(lane.recognize(make(str(number), 3.0))))
            await asyncio.sleep(0.01)
        await asyncio.gather(*found[1:])
        release.set()
        await found[0]
        await lane.close()
        return [child.sizes for child in children]

    assert asyncio.run(run()) == sizes


@pytest.mark.parametrize("failure", [ChildDiedError("killed"), AnadilError("NaN")])
def test_a_piece_over_which_the_model_fails_fails_alone(failure: Exception) -> None:
    async def run() -> list[Any]:
        lane = Lane([FakeChild((Path("bad"),), failure)], in_turns=False)  # type: ignore[list-item]
        jobs = [make("good", 3.0), make("bad", 3.0), make("fine", 3.0, 3.0)]
        found = await asyncio.gather(*(lane.recognize(one) for one in jobs), return_exceptions=True)
        await lane.close()
        return list(found)

    good, bad, fine = asyncio.run(run())
    assert len(good) == 1 and len(fine) == 2 and bad is failure


def test_an_error_of_the_model_goes_to_who_asked_and_the_lane_goes_on() -> None:
    async def run() -> None:
        child = FakeChild(error=AnadilError("NaN"))
        lane = Lane([child], in_turns=False)  # type: ignore[list-item]
        with pytest.raises(AnadilError, match="NaN"):
            await lane.recognize(make("a", 3.0))
        child.error = None
        assert len(await lane.recognize(make("a", 3.0))) == 1
        await lane.close()

    asyncio.run(run())


def test_a_job_whose_client_has_gone_leaves_the_queue() -> None:
    async def run() -> int:
        child = FakeChild()
        release = asyncio.Event()
        real = child.ask

        async def slow(question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
            await release.wait()
            return await real(question, timeout_s)

        child.ask = slow  # type: ignore[method-assign]
        lane = Lane([child], in_turns=True)  # type: ignore[list-item]
        first = asyncio.create_task(lane.recognize(make("a", 20.0, 20.0, 20.0)))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert lane.n_waiting == 0
        release.set()
        assert len(await lane.recognize(make("b", 1.0))) == 1
        await lane.close()
        return child.asked

    assert asyncio.run(run()) == 2


def test_a_closed_lane_finishes_and_takes_no_more() -> None:
    async def run() -> None:
        lane = Lane([FakeChild()], in_turns=False)  # type: ignore[list-item]
        waiting = asyncio.create_task(lane.recognize(make("a", *[20.0] * 5)))
        await asyncio.sleep(0)
        await lane.close()
        assert len(await waiting) == 5
        with pytest.raises(LaneClosedError):
            await lane.recognize(make("a", 1.0))

    asyncio.run(run())


def test_words_are_given_once_they_are_settled() -> None:
    """The second piece shares a second with the first: words there come from the one or the other, and not twice."""

    async def run() -> tuple[list[list[str]], list[str]]:
        given: list[list[str]] = []
        one = Job(Path("a"), [(0, 5000, 0), (4000, 9000, 500), (9000, 10_000, 0)], RATE)
        one.on_words = lambda words: given.append([word.text for word in words])
        one.give(2, [Word("e", 9.1, 9.5, 1.0)])
        one.give(0, [Word("a", 0.5, 1.0, 1.0), Word("b", 4.1, 4.3, 1.0), Word("c", 4.7, 4.9, 1.0)])
        one.give(1, [Word("b", 4.1, 4.3, 1.0), Word("c", 4.7, 5.0, 1.0), Word("d", 6.0, 6.5, 1.0)])
        await one.done
        return given, [word.text for word in one.words]

    given, words = asyncio.run(run())
    assert words == ["a", "b", "c", "d", "e"]
    assert given == [[], ["a"], ["b", "c", "d", "e"]]
