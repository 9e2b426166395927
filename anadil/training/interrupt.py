"""Ctrl-C, or a cluster's SIGTERM, between two steps: the run saves what it has before it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """`requested` turns true at the first signal."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second one ends the run at once.

    Off the main thread, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(signum: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signum, before[signal.Signals(signum)])

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
