"""Alternatives when no split can separate both speakers and sentences, and what each costs in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.splitting.assign import SHARE_TOLERANCE
from anadil.splitting.links import BOTH, SPEAKER, TEXT, Links, find_links, groups
from anadil.splitting.split import SET_ASIDE, TEST, TRAIN, VALID, Plan, SplitResult, assign_splits

_SHARED_VALID = "--set-aside --valid-disjoint text"  # for few speakers: only those of test are new

_CHEAP = 0.2
"""To exclude up to this share of the hours is advised before sharing speakers or sentences."""


def split(
    utterances: Sequence[Utterance], plan: Plan, keep: Mapping[str, Sequence[Utterance]] | None = None
) -> SplitResult:
    """Train, valid and test as in `plan`, or an error that lists the alternatives.

    Raises AnadilError if a wanted split would be empty or share what it must not. If speakers and sentences must both be
    disjoint, also if it would get less than half of its share.
    """
    if keep and plan.test_speakers:
        raise AnadilError(
            "the split to keep decides which speakers are in test\n  next: --keep or --test-speaker, not both"
        )
    links = find_links(utterances, plan.language)
    result = assign_splits(utterances, plan, links, keep)
    if not failures(result, plan, keeps=bool(keep)):
        return result
    raise AnadilError("\n".join(_explain(result, plan, links, keep)))


def failures(result: SplitResult, plan: Plan, keeps: bool = False) -> list[str]:
    """Why a split does not fulfil the plan; empty if it does."""
    reasons = [] if result.mask(TRAIN).any() else ["nothing is left to train on"]
    for name, share in _wanted(result, plan).items():
        got = result.figures(name)
        if not got.n_utterances:
            reasons.append(f"{name} is empty")
        elif plan.disjoint == BOTH and not plan.set_aside and not keeps and got.share < (1 - SHARE_TOLERANCE) * share:
            reasons.append(f"{name} gets {got.share:.1%} of the hours, not {share:.1%}")
    for name, disjoint in ((TEST, plan.disjoint), (VALID, plan.valid_disjoint or plan.disjoint)):
        leak = result.leak(name)
        if leak.shared_sentences and TEXT in disjoint:
            reasons.append(
                f"{leak.shared_sentences:,} of the {leak.n_sentences:,} sentences of {name} are in training too"
            )
        if leak.shared_speakers and SPEAKER in disjoint:
            reasons.append(
                f"{leak.shared_speakers:,} of the {leak.n_speakers:,} speakers of {name} are in training too"
            )
    return reasons


def off_target(result: SplitResult, plan: Plan) -> list[str]:
    """Warnings about held-out splits that miss their share by more than half of it."""
    return [
        f"{name} has {got.share:.1%} of the hours, not {share:.1%}"
        for name, share in _wanted(result, plan).items()
        if abs((got := result.figures(name)).share - share) > SHARE_TOLERANCE * share
    ]


def _alternatives(
    utterances: Sequence[Utterance], plan: Plan, links: Links, keep: Mapping[str, Sequence[Utterance]] | None
) -> dict[str, tuple[SplitResult, list[str]]]:
    """Options that relax the plan -> the split that each gives, and why it fails, if it does."""
    plans = {
        "--set-aside": replace(plan, set_aside=True, disjoint=BOTH),
        "--disjoint speaker": replace(plan, disjoint=frozenset({SPEAKER}), set_aside=False),
        "--disjoint text": replace(plan, disjoint=frozenset({TEXT}), set_aside=False),
    }
    if plan.test_speakers and plan.valid_disjoint is None:
        plans[_SHARED_VALID] = replace(plans["--set-aside"], valid_disjoint=frozenset({TEXT}))
    tried = {}
    for option, other in plans.items():
        if (other.disjoint, other.set_aside) == (plan.disjoint, plan.set_aside):
            continue
        if option == "--disjoint text" and plan.test_speakers:
            continue  # the speakers of test are given
        try:
            result = assign_splits(utterances, other, links, keep)
        except AnadilError:
            continue  # the split to keep rules it out
        tried[option] = (result, failures(result, other, keeps=bool(keep)))
    return tried


def _explain(
    result: SplitResult, plan: Plan, links: Links, keep: Mapping[str, Sequence[Utterance]] | None
) -> list[str]:
    wanted = " and no ".join("sentence" if name == TEXT else name for name in sorted(plan.disjoint))
    lines = [f"no such split that shares no {wanted}: {'; '.join(failures(result, plan, keeps=bool(keep)))}"]
    lines.append(f"  {_largest_group(links, result, plan)}")
    tried = _alternatives(result.utterances, plan, links, keep)
    if tried:
        width = max(map(len, tried))
        lines.append("  the alternatives, and what each costs:")
        lines += [f"    {option:<{width}} {_cost(option, one, why)}" for option, (one, why) in tried.items()]
    lines.append(f"  next: {_advice(tried, plan)}")
    return lines


def _largest_group(links: Links, result: SplitResult, plan: Plan) -> str:
    group = groups(links, plan.disjoint)
    length = np.bincount(group, result.lengths)
    inside = group == int(np.argmax(length))
    share = length.max() / max(length.sum(), 1.0)
    return (
        f"of the groups of utterances linked by {' or '.join(sorted(plan.disjoint))}, the largest holds {share:.1%} of the "
        f"hours: {len(np.unique(links.speaker[inside])):,} speakers, {len(np.unique(links.sentence[inside])):,} sentences"
    )


def _cost(option: str, result: SplitResult, why: list[str]) -> str:
    costs = []
    for name in (TEST, VALID):
        leak, got = result.leak(name), result.figures(name)
        if option == "--disjoint speaker" and got.n_utterances:
            costs.append(
                f"{hours_text(leak.shared_hours)} of the {hours_text(got.hours)} of {name} are sentences that are in training too"
            )
        if option in ("--disjoint text", _SHARED_VALID) and leak.shared_speakers and got.n_utterances:
            costs.append(f"{leak.shared_speakers:,} of the {leak.n_speakers:,} speakers of {name} are in training too")
    if option.startswith("--set-aside"):
        excluded, total = result.figures(SET_ASIDE).hours, float(result.lengths.sum()) / 3.6e9
        rest = ", ".join(f"{name} {hours_text(result.figures(name).hours)}" for name in (TRAIN, VALID, TEST))
        costs.append(
            f"{hours_text(excluded)} of {hours_text(total)} ({excluded / total:.0%}) are excluded; left: {rest}"
        )
    return "; ".join([*costs, *(f"fails: {reason}" for reason in why)])


def _advice(tried: Mapping[str, tuple[SplitResult, list[str]]], plan: Plan) -> str:
    """The cheapest alternative: exclude a little; else share sentences, if there are enough speakers; else share speakers."""
    works = {option: one for option, (one, why) in tried.items() if not why}
    fits = {option for option, one in works.items() if not off_target(one, plan)}
    excluding = works.get("--set-aside")
    if excluding and "--set-aside" in fits:
        total = float(excluding.lengths.sum()) / 3.6e9
        if excluding.figures(SET_ASIDE).hours <= _CHEAP * total:
            return "add --set-aside, which excludes little"
    if _SHARED_VALID in works:
        return f"add {_SHARED_VALID}: train and valid then share speakers, but neither shares any with test"
    if "--disjoint speaker" in fits:
        return "--disjoint speaker: error rates are then for new speakers, on sentences that are partly known"
    if "--disjoint text" in works:
        known = "--disjoint text: error rates are then for known speakers, on new sentences"
        return f"{known}\n        or, to test on a new speaker: --test-speaker NAME {_SHARED_VALID}"
    return next(iter(works), "a smaller --valid and --test (0 for none), or more speakers or sentences")


def _wanted(result: SplitResult, plan: Plan) -> dict[str, float]:
    """The wanted share of all hours of each held-out split, without those of 0."""
    left = 1.0 - result.figures(TEST).share if plan.test_speakers else 1.0
    shares = {VALID: plan.valid * left, TEST: 0.0 if plan.test_speakers else plan.test}
    return {name: share for name, share in shares.items() if share > 0}


def hours_text(hours: float) -> str:
    """Hours, or minutes if they are few, so that two digits are significant."""
    return f"{hours:.2f} h" if hours >= 0.1 or not hours else f"{hours * 60:.1f} min"
