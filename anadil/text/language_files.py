"""Which file of languages/ serves a language, the user's own file over it, and whether a code exists at all."""

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

FOLDER = Path(__file__).with_name("languages")
GENERIC = "und"
"""BCP-47's code for an undetermined language: rules that do no harm to any."""


@lru_cache(maxsize=1)
def language_codes() -> tuple[str, ...]:
    """The languages that have a file."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@lru_cache(maxsize=64)
def language_file(code: str) -> LanguageRules:
    """Read languages/<code>.yaml. Raises AnadilError naming every mistake in it."""
    path = FOLDER / f"{code}.yaml"
    return parse(LanguageRules, read_yaml(path), str(path))


@lru_cache(maxsize=256)
def find_language(language: str) -> str | None:
    """Code of the file that serves a language, or None: "tr-TR" and "tur" are served by tr, "zh-TW" by zh-Hant.

    A file serves only its own script: "pa-PK", which is Punjabi in Arabic letters, is not served by pa (Gurmukhi).
    """
    files = {code.lower(): code for code in language_codes()}
    exact = files.get(language.replace("_", "-").lower())
    if exact or not _exists(language):
        return exact
    import langcodes  # 0.05 s, and most codes have a file

    tag = langcodes.Language.get(language)
    likely = tag.maximize()
    for candidate in (tag.to_tag(), f"{likely.language}-{likely.script}", likely.language or ""):
        found = files.get(candidate.lower())
        if found and language_file(found).script in ("", likely.script):
            return found
    return None


def language_rules_of(language: str) -> LanguageRules:
    """The rules of a language: its file, or else the generic ones with its casing.

    Raises AnadilError, with the nearest known codes, if there is no such language.
    """
    found = find_language(language)
    if found:
        return language_file(found)
    require_known(language)
    generic = language_file(GENERIC)
    return generic.model_copy(update={"code": language, "casing": casing_family(language)})


def with_own_file(language_rules: LanguageRules, path: Path) -> LanguageRules:
    """The user's own YAML over a language's rules: a key that it has replaces the language's; keys of mappings
    and of sections are added one by one. Raises AnadilError naming every mistake."""
    if not path.is_file():
        raise AnadilError(f"file of text rules not found: {path}\n  next: check the path (--rules, text.rules)")
    own = read_yaml(path)
    result = parse(
        LanguageRules, merged(language_rules.model_dump(exclude_unset=True, exclude={"tests"}), own), str(path)
    )
    problems = mistakes(result, parse(LanguageRules, own, str(path)))
    if problems:
        raise AnadilError("\n".join(f"{path}: {problem}" for problem in problems) + "\n  next: mend the file")
    return result


def mistakes(language_rules: LanguageRules, own: LanguageRules) -> list[str]:
    """What is wrong with rules that parse: letters that they change, templates that ask for what there is not, and
    test pairs of `own` that fail."""
    normalizer, found = Normalizer(language_rules), []
    letters = (*own.alphabet, *own.loan_letters)
    changed = [letter for letter in letters if unicodedata.normalize("NFC", normalizer.spelled(letter)) != letter]
    if changed:
        found.append(f"letters that the text rules change or drop: {', '.join(map(repr, changed))}")
    for key, template, places in _templates(language_rules):
        try:
            fill(template, dict.fromkeys(places, ""))
        except AnadilError as error:
            found.append(f"{key}: {error}")
    if found:
        return found
    for number, (written, wanted) in enumerate(own.tests, start=1):
        said = normalizer(written)
        if said != wanted:
            found.append(f"test {number} fails: {written!r} gives {said!r}, not {wanted!r}")
    return found


def _templates(language_rules: LanguageRules) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Key, template and the names that may stand in its braces."""
    if language_rules.date:
        yield "date.say", language_rules.date.say, ("day", "month", "year")
    if language_rules.time:
        for key in ("say", "full_hour", "small_minute"):
            yield f"time.{key}", getattr(language_rules.time, key), ("hour", "minute")
    yield "range", language_rules.range, ("from", "to")
    for key, forms in (("percent", language_rules.percent), *language_rules.units.items()):
        for form in forms.values() if isinstance(forms, dict) else (forms,):
            yield key, form, ("number",)


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `base`, sections key by key; `tests` of both."""
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
    """Raise AnadilError if a code is not in the registry of languages (BCP-47), naming the nearest that are known."""
    if _exists(language):
        return
    listed = ", ".join(f"{code} ({name})" for code, name in nearest_codes(language))
    raise AnadilError(
        f"unknown language {language!r}\n"
        f"  the nearest that have rules: {listed}\n"
        "  next: give a BCP-47 or ISO 639-3 code (of any language: sw, mdw); und is for a language without one, qaa for "
        "one of your own"
    )


def _exists(language: str) -> bool:
    import langcodes  # 0.05 s, and most codes have a file

    well_formed = re.fullmatch(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*", language)
    return bool(well_formed) and langcodes.tag_is_valid(language)


def nearest_codes(language: str, n: int = 3) -> list[tuple[str, str]]:
    """(code, English name) of the languages with a file whose code or name is most like `language`."""
    wanted = language.lower()

    def likeness(code: str) -> float:
        known = language_file(code)
        names = (code.lower(), known.name.lower(), known.native_name.lower())
        return max(difflib.SequenceMatcher(None, wanted, name).ratio() for name in names)

    codes = [code for code in language_codes() if code != GENERIC]
    best = sorted(codes, key=lambda code: (-likeness(code), code))[:n]
    return [(code, language_file(code).name) for code in best]
