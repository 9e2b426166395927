"""Hold one set (valid or test) out of many utterances: at random by group, or by size where that would miss the share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from anadil.splitting.links import SPEAKER, TEXT, Ids, Links, connected, draw, groups, positions

FREE, REST, HELD_OUT, EXCLUDED = -1, 0, 1, 2
"""Assignment of an utterance: none yet, to the rest, to the set that is held out, to neither."""

SHARE_TOLERANCE = 0.5
"""The random choice stands if its share is within this fraction of the wanted one; else groups are chosen by size."""

_FEW_GROUPS = 9
"""Of this many groups or fewer, every choice is tried (2 to this power, squared, pairs of choices)."""

Assignment = np.ndarray  # int8 (utterances,): FREE, REST, HELD_OUT, EXCLUDED
Lengths = np.ndarray  # float64 (utterances,): whole microseconds, so that sums do not depend on the order of the lines


@dataclass(frozen=True)
class Stage:
    """How to hold out one set. `share` is of the hours; `salt` makes each seed an independent draw.

    `later` is the share that another set will take of the remaining groups. `earlier` is the share that another set took
    before, in the same draw: its positions end where those of this set begin. So a group that the earlier set loses when
    the corpus grows, because it is then chosen by size, comes to this set before train.
    """

    share: float
    disjoint: frozenset[str]
    salt: str
    set_aside: bool = False
    later: float = 0.0
    earlier: float = 0.0


@dataclass(frozen=True)
class StageResult:
    """`by_size`: the random choice missed the share, so the assignment depends on the corpus as a whole."""

    assigned: Assignment
    by_size: bool


def hold_out(links: Links, lengths: Lengths, stage: Stage, pinned: Assignment) -> StageResult:
    """Assign every utterance to HELD_OUT, REST or EXCLUDED.

    `pinned` (FREE, REST or HELD_OUT) are earlier assignments, which stay. FREE utterances follow the pinned ones that
    they are linked to; those that link HELD_OUT to REST become EXCLUDED. Groups without a link to pinned utterances are
    chosen. With `stage.set_aside`, only speakers make groups, and then each sentence of both sets goes to one of them.
    """
    separate = stage.set_aside and stage.disjoint == {SPEAKER, TEXT}
    disjoint = frozenset({SPEAKER}) if separate else stage.disjoint
    assigned = _follow_pinned(links, lengths, disjoint, pinned)
    free = np.flatnonzero(assigned == FREE)
    by_size = False
    if len(free) and stage.share > 0:
        free_links = links.take(free)
        group = groups(free_links, disjoint)
        held, by_size = _choose_groups(
            np.bincount(group, lengths[free]),
            (positions(free_links, group, disjoint, stage.salt) - stage.earlier) / (1 - stage.earlier),
            stage,
            float(lengths[assigned == HELD_OUT].sum()),
            float(lengths.sum()),
        )
        assigned[free] = np.where(held[group], HELD_OUT, REST)
    assigned[assigned == FREE] = REST
    if separate:
        assigned = _separate_sentences(links, lengths, assigned, stage.share, stage.salt, pinned)
    return StageResult(assigned, by_size)


def shared(key: Ids, assigned: Assignment) -> Ids:
    """Ids of the speakers or sentences that both HELD_OUT and REST have."""
    return np.intersect1d(key[assigned == HELD_OUT], key[assigned == REST])


def _follow_pinned(links: Links, lengths: Lengths, disjoint: Collection[str], pinned: Assignment) -> Assignment:
    """Assign the FREE utterances that are linked to pinned ones, directly or over other free ones."""
    assigned = pinned.astype(np.int8)
    if not (pinned != FREE).any():
        return assigned
    keys = [key for name, key in ((SPEAKER, links.speaker), (TEXT, links.sentence)) if name in disjoint]
    # for each key, whether a pinned utterance of that set has the same
    on = {side: [np.isin(key, key[pinned == side]) for key in keys] for side in (HELD_OUT, REST)}
    touching = {side: np.any(on[side], axis=0) for side in (HELD_OUT, REST)}
    free = pinned == FREE
    torn = free & touching[HELD_OUT] & touching[REST]
    assigned[torn] = EXCLUDED
    free &= ~torn
    # only keys that no pinned utterance has can link free utterances to each other
    own = int(max(links.speaker.max(), links.sentence.max())) + 1 + np.arange(len(assigned))
    ends = [np.where(on[HELD_OUT][i] | on[REST][i], own, key)[free] for i, key in enumerate(keys)]
    component = connected(ends[0], ends[-1])
    touches = {side: touching[side][free] for side in (HELD_OUT, REST)}
    weight = {side: np.bincount(component, lengths[free] * touches[side]) for side in (HELD_OUT, REST)}
    reached = {side: np.bincount(component, touches[side]) > 0 for side in (HELD_OUT, REST)}
    to_held = reached[HELD_OUT] & (~reached[REST] | (weight[HELD_OUT] > weight[REST]))
    target = np.where(to_held, HELD_OUT, np.where(reached[REST], REST, FREE))[component]
    target[((target == HELD_OUT) & touches[REST]) | ((target == REST) & touches[HELD_OUT])] = EXCLUDED
    assigned[free] = target
    return assigned


def _separate_sentences(
    links: Links, lengths: Lengths, assigned: Assignment, share: float, salt: str, pinned: Assignment
) -> Assignment:
    """Give each sentence that both sets have to one of them; the utterances of the other set become EXCLUDED.

    A sentence goes to the set that has more hours of it. If HELD_OUT then has less than its share of the kept hours, it
    takes further sentences, first those that cost REST the least for each hour gained. A sentence that one set has pinned
    stays there; one that both have pinned goes to HELD_OUT.
    """
    n = len(links.sentence_names)
    length_of, has = {}, {}
    for side in (HELD_OUT, REST):
        chosen = assigned == side
        length_of[side] = np.bincount(links.sentence[chosen], lengths[chosen], minlength=n)
        has[side] = np.bincount(links.sentence[chosen], minlength=n) > 0
    both = has[HELD_OUT] & has[REST]
    to_held = both & (length_of[HELD_OUT] > length_of[REST])
    fixed = {side: np.zeros(n, dtype=bool) for side in (HELD_OUT, REST)}
    for side in (HELD_OUT, REST):
        fixed[side][links.sentence[(pinned == side) & (assigned == side)]] = True
    to_held = both & (fixed[HELD_OUT] | to_held) & ~(fixed[REST] & ~fixed[HELD_OUT])
    held = length_of[HELD_OUT][~both | to_held].sum()
    rest = length_of[REST][~both | ~to_held].sum()
    candidates = np.flatnonzero(both & ~to_held & ~fixed[REST])
    gain = length_of[HELD_OUT][candidates] / np.maximum(length_of[REST][candidates], 1e-12)
    ties = np.array([draw(salt, links.sentence_names[i])[1] for i in candidates.tolist()])
    candidates = candidates[np.lexsort((ties, -gain))]
    held_after = held + np.concatenate([[0.0], np.cumsum(length_of[HELD_OUT][candidates])])
    rest_after = rest - np.concatenate([[0.0], np.cumsum(length_of[REST][candidates])])
    enough = held_after >= share * (held_after + rest_after)
    to_held[candidates[: int(np.argmax(enough)) if enough.any() else len(candidates)]] = True
    wrong = both[links.sentence] & np.where(to_held[links.sentence], assigned == REST, assigned == HELD_OUT)
    return np.where(wrong, EXCLUDED, assigned).astype(np.int8)


def _choose_groups(
    group_length: np.ndarray, position: np.ndarray, stage: Stage, held_length: float, all_length: float
) -> tuple[np.ndarray, bool]:
    """bool (groups,): which to hold out, and whether by size. `held_length` of `all_length` are held out already.

    Each group whose position is below the share is held out, whatever other groups there are: so growth moves none. If
    the hours are then off by more than SHARE_TOLERANCE, or one group is most of the set, groups are chosen by size in the
    order of their positions: small ones first, so that a set has many speakers.
    """
    target = stage.share * all_length
    held = position < stage.share
    total = held_length + group_length[held].sum()
    fits = (1 - SHARE_TOLERANCE) * target <= total <= (1 + SHARE_TOLERANCE) * target
    if fits and group_length[held].max(initial=0.0) <= 0.5 * target:
        return held, False
    missing = target - held_length
    if missing <= 0:
        return np.zeros(len(position), dtype=bool), True
    order = np.argsort(position, kind="stable")
    chosen = np.zeros(len(position), dtype=bool)
    if len(position) <= _FEW_GROUPS:
        chosen[order] = _best_of_few(group_length[order], missing, stage.later * all_length)
    else:
        # where one group is too large to be held out, the sets divide what the others have
        spare = (group_length.sum() - group_length.max()) * stage.share / (stage.share + stage.later)
        chosen[order] = _fill_by_size(group_length[order], min(missing, spare))
    return chosen, not np.array_equal(chosen, held)


def _fill_by_size(group_length: np.ndarray, missing: float) -> np.ndarray:
    """bool (groups,): in their order, groups up to a fifth of the missing length, then up to half, then larger ones."""
    held = np.zeros(len(group_length), dtype=bool)
    total = 0.0
    for largest in (missing / 5, missing / 2, missing):
        for group in np.flatnonzero(group_length <= largest).tolist():
            if total >= 0.95 * missing:
                return held
            if not held[group] and total + group_length[group] <= 1.1 * missing:
                held[group] = True
                total += float(group_length[group])
    error_after = np.where(held, np.inf, np.abs(total + group_length - missing))
    best = int(np.argmin(error_after))
    if not held.all() and (not held.any() or error_after[best] < missing - total):
        held[best] = True
    return held


def _best_of_few(group_length: np.ndarray, missing: float, later: float) -> np.ndarray:
    """bool (groups,): the choice with the least error of this share and of the later one, added.

    At least one group must be left for the later set, and one for train. Of equal choices, the one with the first groups.
    """
    n = len(group_length)
    bits = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1  # (choices, groups)
    lengths = bits @ group_length
    error = np.abs(lengths - missing) / missing
    n_left = n - bits.sum(axis=1)
    allowed = (n_left < n) & (n_left >= (2 if later else 1))
    if later:
        apart = (np.arange(1 << n)[:, None] & np.arange(1 << n)) == 0
        apart &= (bits.sum(axis=1) > 0) & (bits.sum(axis=1) < n_left[:, None])
        error = error + np.where(apart, np.abs(lengths - later) / later, np.inf).min(axis=1)
    if not allowed.any():
        return np.zeros(n, dtype=bool)
    chosen: np.ndarray = bits[int(np.argmin(np.where(allowed, error, np.inf)))].astype(bool)
    return chosen
