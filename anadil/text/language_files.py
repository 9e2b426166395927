"""Finds the file in languages/ for a language, applies the user's own file over it, and checks language codes."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError
from anadil.settings import parse, read_yaml
from anadil.text.casing import casing_family
from anadil.text.expansions import fill
from anadil.text.language_rules import LanguageRules
from anadil.text.normalize import Normalizer

_FOLDER = Path(__file__).with_name("languages")
_GENERIC = "und"
"""BCP-47's code for an undetermined language. Its rules are safe for every language."""


@lru_cache(maxsize=1)
def language_codes() -> tuple[str, ...]:
    """The codes of the languages that have a file, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@lru_cache(maxsize=64)
def language_file(code: str) -> LanguageRules:
    """Read languages/<code>.yaml. Raises AnadilError that names every mistake in it."""
    path = _FOLDER / f"{code}.yaml"
    return parse(LanguageRules, read_yaml(path), str(path))


@lru_cache(maxsize=256)
def find_language(language: str) -> str | None:
    """The code of the file for a language, or None. The file tr is for "tr-TR" and "tur", zh-Hant for "zh-TW".

    A file is for one script only: pa (Gurmukhi) is not the file for "pa-PK", which is Punjabi in Arabic letters.
    """
    files = {code.lower(): code for code in language_codes()}
    exact = files.get(language.replace("_", "-").lower())
    if exact or not _exists(language):
        return exact
    import langcodes  # the import takes 0.05 s, and most codes have a file

    tag = langcodes.Language.get(language)
    likely = tag.maximize()
    for candidate in (tag.to_tag(), f"{likely.language}-{likely.script}", likely.language or ""):
        code = files.get(candidate.lower())
        if code and language_file(code).script in ("", likely.script):
            return code
    return None


def language_rules_of(language: str) -> LanguageRules:
    """The rules of a language: those of its file, or else the generic ones with its casing.

    Raises AnadilError that names the nearest known codes if the language does not exist.
    """
    code = find_language(language)
    if code:
        return language_file(code)
    require_known(language)
    generic = language_file(_GENERIC)
    return generic.model_copy(update={"code": language, "casing": casing_family(language)})


def with_own_file(language_rules: LanguageRules, path: Path) -> LanguageRules:
    """The rules of a language with the user's own YAML file applied over them.

    A key of the file replaces the language's key; mappings and sections are merged key by key.
    Raises AnadilError that names every mistake.
    """
    if not path.is_file():
        raise AnadilError(f"file of text rules not found: {path}\n  next: check the path (--rules, text.rules)")
    own = read_yaml(path)
    result = parse(
        LanguageRules, _merged(language_rules.model_dump(exclude_unset=True, exclude={"tests"}), own), str(path)
    )
    problems = mistakes(result, parse(LanguageRules, own, str(path)))
    if problems:
        raise AnadilError("\n".join(f"{path}: {problem}" for problem in problems) + "\n  next: correct the file")
    return result


def mistakes(language_rules: LanguageRules, own: LanguageRules) -> list[str]:
    """The mistakes in rules that parse.

    They are letters that the rules change, number rules not in CLDR's notation, templates with unknown names, and test
    pairs of `own` that fail.
    """
    normalizer, problems = Normalizer(language_rules), []
    letters = (*own.alphabet, *own.loan_letters)
    changed = [letter for letter in letters if unicodedata.normalize("NFC", normalizer.spelled(letter)) != letter]
    if changed:
        problems.append(f"letters that the text rules change or drop: {', '.join(map(repr, changed))}")
    try:
        normalizer.expander.speller.check()
    except AnadilError as error:
        problems.append(str(error))
    for key, template, names in _templates(language_rules):
        try:
            fill(template, dict.fromkeys(names, ""))
        except AnadilError as error:
            problems.append(f"{key}: {error}")
    if problems:
        return problems
    for number, (written, wanted) in enumerate(own.tests, start=1):
        spoken = normalizer(written)
        if spoken != wanted:
            problems.append(f"test {number} fails: {written!r} gives {spoken!r}, not {wanted!r}")
    return problems


def _templates(language_rules: LanguageRules) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Key, template and the names allowed in its braces."""
    if language_rules.date:
        yield "date.say", language_rules.date.say, ("day", "month", "year")
    if language_rules.time:
        for key in ("say", "full_hour", "small_minute"):
            yield f"time.{key}", getattr(language_rules.time, key), ("hour", "minute")
    yield "range", language_rules.range, ("from", "to")
    for key, forms in (("percent", language_rules.percent), *language_rules.units.items()):
        for form in forms.values() if isinstance(forms, dict) else (forms,):
            yield key, form, ("number",)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `base`: sections are merged key by key, `tests` are those of both, other keys are replaced."""
    result = dict(base)
    for key, value in own.items():
        if key == "tests" and isinstance(value, list):
            result[key] = [*result.get(key, ()), *value]
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = {**result[key], **value}
        else:
            result[key] = value
    return result


def require_known(language: str) -> None:
    """Raise AnadilError that names the nearest known codes if a code is not in the registry of languages (BCP-47)."""
    if _exists(language):
        return
    listed = ", ".join(f"{code} ({name})" for code, name in nearest_codes(language))
    raise AnadilError(
        f"unknown language {language!r}\n"
        f"  the nearest that have rules: {listed}\n"
        "  next: give a BCP-47 or ISO 639-3 code of any language, such as sw or mdw; for a language without a code, give "
        "und, or qaa for a code of your own"
    )


def _exists(language: str) -> bool:
    import langcodes  # the import takes 0.05 s, and most codes have a file

    well_formed = re.fullmatch(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*", language)
    return bool(well_formed) and langcodes.tag_is_valid(language)


def nearest_codes(language: str, n: int = 3) -> list[tuple[str, str]]:
    """(code, English name) of the `n` languages with a file whose codes or names are most similar to `language`."""
    wanted = language.lower()

    def similarity(code: str) -> float:
        known = language_file(code)
        names = (code.lower(), known.name.lower(), known.native_name.lower())
        return max(difflib.SequenceMatcher(None, wanted, name).ratio() for name in names)

    codes = [code for code in language_codes() if code != _GENERIC]
    nearest = sorted(codes, key=lambda code: (-similarity(code), code))[:n]
    return [(code, language_file(code).name) for code in nearest]
