"""Which tier of an annotation file holds the text: named by the user, or the only one that could."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from anadil.corpora.reader import Options
from anadil.errors import AnadilError


@dataclass(frozen=True, slots=True)
class Tier:
    """What is known of a tier before its annotations are used."""

    name: str
    kind: str  # linguistic type (ELAN); "intervals" or "points" (Praat)
    n_texts: int  # annotations that hold text
    timed: bool = True  # they last some time; points do not


def choose(tiers: Sequence[Tier], options: Options, file: Path) -> list[Tier]:
    """The tiers with the name, or the pattern of names ("tx@*"), or the type that the user gave.

    If none is given: the only tier with text in it. Raises AnadilError listing the tiers if none fits, or several
    do and none was given.
    """
    chosen = list(tiers)
    if options.tier is not None:
        exact = [tier for tier in chosen if tier.name == options.tier]
        chosen = exact or [tier for tier in chosen if fnmatchcase(tier.name, options.tier)]
    if options.tier_type is not None:
        chosen = [tier for tier in chosen if tier.kind == options.tier_type]
    if options.tier is not None or options.tier_type is not None:
        if not chosen:
            asked = " and ".join(
                [f"called {options.tier!r}"] * (options.tier is not None)
                + [f"of type {options.tier_type!r}"] * (options.tier_type is not None)
            )
            raise AnadilError(f"{file}: no tier {asked}; {_listed(tiers)}")
        untimed = [tier.name for tier in chosen if not tier.timed]
        if untimed:
            raise AnadilError(f"{file}: tier {untimed[0]!r} holds points, which have no length; {_listed(tiers)}")
        return chosen
    filled = [tier for tier in chosen if tier.n_texts and tier.timed]
    if len(filled) == 1:
        return filled
    if not filled:
        raise AnadilError(f"{file}: no tier of intervals holds any text; {_listed(tiers)}")
    raise AnadilError(f"{file}: {len(filled)} tiers hold text, so it must be said which one; {_listed(tiers)}")


def _listed(tiers: Sequence[Tier]) -> str:
    lines = [f"  {tier.name!r}, type {tier.kind!r}, {tier.n_texts:,} annotations with text" for tier in tiers]
    if not lines:
        return "it has no tiers\n  next: check the file"
    return "it has:\n" + "\n".join(lines) + "\n  next: choose one with --tier, or several of one type with --tier-type"
