"""Deal one set out of many utterances (valid, or test), and leave the rest: by draw, by size where it must be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from anadil.splitting.links import SPEAKER, TEXT, Ids, Links, connected, draw, groups, positions

FREE, REST, HELD_OUT, EXCLUDED = -1, 0, 1, 2
"""Where an utterance is: not yet dealt, left, in the set that is dealt, in neither."""

SLACK = 0.5
"""A share may be off by this much of itself before groups are dealt by size instead of by draw."""

FEW = 9
"""Of so many groups, every choice is tried (2 to this power, squared, are looked at)."""

Sides = np.ndarray  # int8 (utterances,): FREE, REST, HELD_OUT, EXCLUDED
Lengths = np.ndarray  # float64 (utterances,): whole microseconds, so that sums do not hang on the order of the lines


@dataclass(frozen=True)
class Draw:
    """How to deal: `share` is of the hours, `salt` makes each seed a draw of its own.

    `later` is the share that another set will take of the same groups, out of what this one leaves; `earlier` that
    which one took before, by the same draw: its places end where those of this one begin. So a group that the earlier
    set gives up, when growth makes it deal by size, comes to this one rather than to train.
    """

    share: float
    disjoint: frozenset[str]
    salt: str
    set_aside: bool = False
    later: float = 0.0
    earlier: float = 0.0


@dataclass(frozen=True)
class Dealt:
    """`by_size`: the draw alone did not give the share, so the result hangs on the corpus as a whole."""

    side: Sides
    by_size: bool


def hold_out(links: Links, lengths: Lengths, how: Draw, pinned: Sides) -> Dealt:
    """Deal every utterance to HELD_OUT, REST or EXCLUDED.

    `pinned` (FREE, REST or HELD_OUT) is where utterances are already; those stay. Utterances that are FREE go with the
    pinned ones they are linked to; what links HELD_OUT to REST is set aside. Groups without a link to pinned ones are
    dealt. With `how.set_aside`, speakers are dealt alone, and then each sentence that both sides read goes to one.
    """
    resolve = how.set_aside and how.disjoint == {SPEAKER, TEXT}
    disjoint = frozenset({SPEAKER}) if resolve else how.disjoint
    side = _placed(links, lengths, disjoint, pinned)
    free = np.flatnonzero(side == FREE)
    by_size = False
    if len(free) and how.share > 0:
        inner = links.take(free)
        group = groups(inner, disjoint)
        held, by_size = _deal(
            np.bincount(group, lengths[free]),
            (positions(inner, group, disjoint, how.salt) - how.earlier) / (1 - how.earlier),
            how,
            float(lengths[side == HELD_OUT].sum()),
            float(lengths.sum()),
        )
        side[free] = np.where(held[group], HELD_OUT, REST)
    side[side == FREE] = REST
    if resolve:
        side = part_sentences(links, lengths, side, how.share, how.salt, pinned)
    return Dealt(side, by_size)


def shared(key: Ids, side: Sides) -> Ids:
    """Ids of speakers or sentences that are on both sides."""
    return np.intersect1d(key[side == HELD_OUT], key[side == REST])


def _placed(links: Links, lengths: Lengths, disjoint: Collection[str], pinned: Sides) -> Sides:
    """Let the FREE utterances follow the pinned ones that they are linked to, over other free ones too."""
    side = pinned.astype(np.int8)
    if not (pinned != FREE).any():
        return side
    keys = [key for name, key in ((SPEAKER, links.speaker), (TEXT, links.sentence)) if name in disjoint]
    # for each key, whether a pinned utterance of that side has the same
    on = {where: [np.isin(key, key[pinned == where]) for key in keys] for where in (HELD_OUT, REST)}
    touching = {where: np.any(on[where], axis=0) for where in (HELD_OUT, REST)}
    free = pinned == FREE
    torn = free & touching[HELD_OUT] & touching[REST]
    side[torn] = EXCLUDED
    free &= ~torn
    # only keys that no pinned utterance has can pass a side on
    own = int(max(links.speaker.max(), links.sentence.max())) + 1 + np.arange(len(side))
    ends = [np.where(on[HELD_OUT][i] | on[REST][i], own, key)[free] for i, key in enumerate(keys)]
    component = connected(ends[0], ends[-1])
    touches = {where: touching[where][free] for where in (HELD_OUT, REST)}
    weight = {where: np.bincount(component, lengths[free] * touches[where]) for where in (HELD_OUT, REST)}
    reached = {where: np.bincount(component, touches[where]) > 0 for where in (HELD_OUT, REST)}
    to_held = reached[HELD_OUT] & (~reached[REST] | (weight[HELD_OUT] > weight[REST]))
    goes = np.where(to_held, HELD_OUT, np.where(reached[REST], REST, FREE))[component]
    goes[((goes == HELD_OUT) & touches[REST]) | ((goes == REST) & touches[HELD_OUT])] = EXCLUDED
    side[free] = goes
    return side


def part_sentences(links: Links, lengths: Lengths, side: Sides, share: float, salt: str, pinned: Sides) -> Sides:
    """Give each sentence that is read on both sides to one of them; its other readings go EXCLUDED.

    A sentence goes where it has more hours. If HELD_OUT then has less than its share of what is kept, it takes
    further sentences, those first that cost REST the least for each hour gained. A sentence that one side
    has pinned stays there; one that both have goes to HELD_OUT.
    """
    n = len(links.sentence_names)
    length_of, reads = {}, {}
    for where in (HELD_OUT, REST):
        chosen = side == where
        length_of[where] = np.bincount(links.sentence[chosen], lengths[chosen], minlength=n)
        reads[where] = np.bincount(links.sentence[chosen], minlength=n) > 0
    both = reads[HELD_OUT] & reads[REST]
    to_held = both & (length_of[HELD_OUT] > length_of[REST])
    fixed = {where: np.zeros(n, dtype=bool) for where in (HELD_OUT, REST)}
    for where in (HELD_OUT, REST):
        fixed[where][links.sentence[(pinned == where) & (side == where)]] = True
    to_held = both & (fixed[HELD_OUT] | to_held) & ~(fixed[REST] & ~fixed[HELD_OUT])
    held = length_of[HELD_OUT][~both | to_held].sum()
    rest = length_of[REST][~both | ~to_held].sum()
    open_ = np.flatnonzero(both & ~to_held & ~fixed[REST])
    gain = length_of[HELD_OUT][open_] / np.maximum(length_of[REST][open_], 1e-12)
    ties = np.array([draw(salt, links.sentence_names[i])[1] for i in open_.tolist()])
    open_ = open_[np.lexsort((ties, -gain))]
    held_after = held + np.concatenate([[0.0], np.cumsum(length_of[HELD_OUT][open_])])
    rest_after = rest - np.concatenate([[0.0], np.cumsum(length_of[REST][open_])])
    enough = held_after >= share * (held_after + rest_after)
    to_held[open_[: int(np.argmax(enough)) if enough.any() else len(open_)]] = True
    wrong = both[links.sentence] & np.where(to_held[links.sentence], side == REST, side == HELD_OUT)
    return np.where(wrong, EXCLUDED, side).astype(np.int8)


def _deal(
    group_length: np.ndarray, place: np.ndarray, how: Draw, held_length: float, all_length: float
) -> tuple[np.ndarray, bool]:
    """bool (groups,): which are held, and whether by size. `held_length` of `all_length` are held already.

    Each group whose place is below the share is held, whatever the other groups are: so growth moves none. Only if
    the hours are then off by more than SLACK, or one group is most of the set, are groups taken in the order of their
    places by size: small ones first, so that a set has many speakers.
    """
    target = how.share * all_length
    held = place < how.share
    total = held_length + group_length[held].sum()
    fits = (1 - SLACK) * target <= total <= (1 + SLACK) * target
    if fits and group_length[held].max(initial=0.0) <= 0.5 * target:
        return held, False
    missing = target - held_length
    if missing <= 0:
        return np.zeros(len(place), dtype=bool), True
    order = np.argsort(place, kind="stable")
    filled = np.zeros(len(place), dtype=bool)
    if len(place) <= FEW:
        filled[order] = _best_of_few(group_length[order], missing, how.later * all_length)
    else:
        # where one group is too large to be held, the sets divide what the others have
        spare = (group_length.sum() - group_length.max()) * how.share / (how.share + how.later)
        filled[order] = _fill(group_length[order], min(missing, spare))
    return filled, not np.array_equal(filled, held)


def _fill(group_length: np.ndarray, missing: float) -> np.ndarray:
    """bool (groups,): in their order, groups up to a fifth of what is missing, then up to half, then larger ones."""
    held = np.zeros(len(group_length), dtype=bool)
    total = 0.0
    for largest in (missing / 5, missing / 2, missing):
        for group in np.flatnonzero(group_length <= largest).tolist():
            if total >= 0.95 * missing:
                return held
            if not held[group] and total + group_length[group] <= 1.1 * missing:
                held[group] = True
                total += float(group_length[group])
    after = np.where(held, np.inf, np.abs(total + group_length - missing))
    best = int(np.argmin(after))
    if not held.all() and (not held.any() or after[best] < missing - total):
        held[best] = True
    return held


def _best_of_few(group_length: np.ndarray, missing: float, later: float) -> np.ndarray:
    """bool (groups,): of all choices, that with the least error of this share and of the later one, taken together.

    Some group must be left for each set, and one to train on. Of equal choices, the one with the first groups.
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
