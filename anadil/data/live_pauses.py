"""The pieces of `pauses.py` while the recording is still going on: each is found as soon as the pause after it is.

The levels of background and speech are those of the last five minutes, not of the whole recording. Memory is constant.
"""

from __future__ import annotations

import numpy as np

from anadil.data.pauses import (
    DIGITAL_MARGIN_S,
    DIGITAL_PAUSE_S,
    FRAME_S,
    LEAST_PAUSE_S,
    NOT_MEASURED,
    Levels,
    PauseLimits,
    Piece,
    cut_at_pauses,
    frame_powers,
    measure_levels,
)

HISTORY_S = 300.0
"""So much of the past counts for the levels of background and speech."""


class LivePieces:
    """Finds pieces of speech, none longer than `longest_s`, in samples that come bit by bit.

    A piece ends after a pause longer than `limits` allow, at digital silence, or where it is quiet before it gets too long. At
    most `longest_s`, a pause and a margin are kept.
    """

    def __init__(self, sample_rate: int, longest_s: float = 20.0, limits: PauseLimits = NOT_MEASURED) -> None:
        self._rate, self._longest_s = sample_rate, longest_s
        self._frame = max(1, int(FRAME_S * sample_rate))
        self._pause, self._margin, self._edge = (
            round(one / FRAME_S) for one in (limits.longest_s, limits.margin_s, limits.edge_s)
        )
        self._samples = np.zeros(0, dtype=np.float32)  # what is not decided yet
        self._power = np.zeros(0)  # of its frames
        self._start = 0  # its place in the recording, in samples
        self._history = np.zeros(0)  # powers of the frames before it
        self._is_after_pause = False  # the pause before it was cut out but for a margin
        self._is_open = False  # its start was reported as speech, and stays
        self._found: list[Piece] = []

    def push(self, samples: np.ndarray) -> list[Piece]:
        """Take the next float32 (samples,); return the pieces that ended."""
        self._samples = np.concatenate([self._samples, samples])
        new = frame_powers(self._samples[len(self._power) * self._frame :], self._frame)
        self._power = np.concatenate([self._power, new])
        while self._advance(is_last=False):
            pass
        return self._take()

    def finish(self) -> list[Piece]:
        """Return the last pieces; the recording has ended."""
        if self._start == 0 and len(self._power) < LEAST_PAUSE_S / FRAME_S:  # too short to tell pauses
            self._found.append(Piece(0, self._samples))
            self._samples, self._power = self._samples[:0], self._power[:0]
        while len(self._power) and self._advance(is_last=True):
            pass
        return self._take()

    @property
    def speech(self) -> Piece | None:
        """The piece that has not ended, up to the last sample; None if there is no speech. Its start does not change."""
        if len(self._power) < LEAST_PAUSE_S / FRAME_S:
            return None
        if not self._is_open:
            self._is_open = self._levels().has_voice(0, len(self._power), noise_s=0.0)
        return Piece(self._start, self._samples) if self._is_open else None

    def _take(self) -> list[Piece]:
        found, self._found = self._found, []
        return found

    def _levels(self) -> Levels:
        return measure_levels(np.concatenate([self._history, self._power]), len(self._history))

    def _advance(self, is_last: bool) -> bool:
        """Drop a pause, or end a piece; whether there may be more to do."""
        n_frames = len(self._power)
        if n_frames < LEAST_PAUSE_S / FRAME_S and not is_last:
            return False
        levels = self._levels()
        pause, margin = round(DIGITAL_PAUSE_S / FRAME_S), round(DIGITAL_MARGIN_S / FRAME_S)
        sounding = levels.sounding
        if not len(sounding):
            if n_frames > pause or is_last:
                self._drop(levels, n_frames - margin, is_after_pause=False)
            return False
        if sounding[0] > pause:
            self._drop(levels, int(sounding[0]) - margin, is_after_pause=False)
            return True
        gap = _first_gap(sounding, n_frames, pause)
        if gap is not None:
            return self._advance_speech(levels, gap + 1 + margin, has_ended=True)
        return self._advance_speech(levels, n_frames, has_ended=is_last)

    def _advance_speech(self, levels: Levels, n_frames: int, has_ended: bool) -> bool:
        """The same for the first `n_frames`; `has_ended`: nothing that follows belongs to them."""
        loud = levels.loud[levels.loud < n_frames]
        if not len(loud):
            if has_ended:
                self._drop(levels, n_frames, is_after_pause=False)
                return True
            if n_frames > self._pause:
                self._drop(levels, n_frames - self._margin, is_after_pause=True)
            return False
        first = int(loud[0])
        if first > self._margin and (first > self._edge or self._is_after_pause) and not self._is_open:
            self._drop(levels, first - self._margin, is_after_pause=True)
            return True
        last = _first_gap(loud, n_frames, self._pause)
        if last is not None:
            self._end(levels, (last + 1 + self._margin) * self._frame, is_after_pause=True)
            return True
        reach = len(self._samples) if has_ended and n_frames == len(self._power) else n_frames * self._frame
        if not has_ended or n_frames - 1 - int(loud[-1]) > max(self._edge, self._margin):
            reach = min(reach, (int(loud[-1]) + 1 + self._margin) * self._frame)
        if reach > int(self._longest_s * self._rate):
            (_, cut), *_ = cut_at_pauses(self._samples[:reach], self._rate, self._longest_s)
            self._end(levels, cut, is_after_pause=False)
            return True
        if has_ended:
            self._end(levels, reach, is_after_pause=False)
        return has_ended

    def _end(self, levels: Levels, n_samples: int, is_after_pause: bool) -> None:
        """End a piece after `n_samples`; clicks and steady noise are none."""
        if levels.has_voice(0, -(-n_samples // self._frame)):
            self._found.append(Piece(self._start, self._samples[:n_samples].copy()))
        self._drop_samples(levels, n_samples)
        self._is_after_pause, self._is_open = is_after_pause, False

    def _drop(self, levels: Levels, n_frames: int, is_after_pause: bool) -> None:
        if n_frames > 0:
            self._drop_samples(levels, n_frames * self._frame)
        self._is_after_pause, self._is_open = is_after_pause, False

    def _drop_samples(self, levels: Levels, n_samples: int) -> None:
        """Forget samples. Frames of digital silence do not count for the levels of what follows, as in `pauses.py`."""
        known = levels.sounding[levels.sounding < n_samples // self._frame]
        self._history = np.concatenate([self._history, self._power[known]])[-round(HISTORY_S / FRAME_S) :]
        self._samples, self._start = self._samples[n_samples:].copy(), self._start + n_samples
        whole = n_samples % self._frame == 0
        self._power = self._power[n_samples // self._frame :] if whole else frame_powers(self._samples, self._frame)


def _first_gap(frames: np.ndarray, n_frames: int, pause: int) -> int | None:
    """The frame before the first gap of more than `pause` frames between these, or after the last."""
    gaps = np.flatnonzero(np.diff(frames, append=n_frames - 1) > pause)
    return int(frames[gaps[0]]) if len(gaps) else None
