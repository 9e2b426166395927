"""docs/languages.md: every language's rules over its real sentences, what they remove and what is left unknown.

    python benchmarks/languages.py [--shared ../shared] [--check]

`--check` writes nothing and exits with 1 if the page is out of date. Sentences: 100 of Common Voice for each language
(CC0), Mboshi's validation set (Godard et al., LREC 2018).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

from anadil.text.changes import Changes, changes
from anadil.text.language_files import find_language, language_codes, language_file
from anadil.text.rules import TextSettings, text_rules

PAGE = Path(__file__).parents[1] / "docs" / "languages.md"
HEAD = """# Languages

Each language's rules (`anadil/text/languages/<code>.yaml`) over real sentences: 100 of Common Voice, for Mboshi its
validation set. Made by `python benchmarks/languages.py`; a test compares.

*Removed*: characters that the rules drop, with their number. *Became another*: equivalent code points and mapped
letters, small letters not counted. *Unknown*: characters that are left and not in the language's alphabet; a model
would have to learn them, or `text.map`, `text.drop` or the speaker of the language decides what they are. *Numbers*: by
CLDR's rules, by CLDR's with corrections, by rules of the file, or reported as characters without a label.

| code | language | sentences | numbers | removed | became another | unknown |
|---|---|---|---|---|---|---|
"""

PAIRS = """
## What is not inflected

Digits do not show the case or gender of the word that is said for them. Where the text does not tell, one form is taken or
nothing is:

- German `3.` is *dritte*: "am 3. Mai" becomes "am dritte mai", not "am dritten mai". Only in a whole date is the ending known (am
  03.10.1990: am dritten oktober).
- Finnish, Estonian, Czech and Polish `3.` before a small letter, and Finnish `5:ssä`, are left as digits and reported.
- Cardinals of other languages with gender or case (Czech, Polish, Russian, Ukrainian, Greek, Hindi, Arabic, Lithuanian) are in
  the form that counts without a noun; before a unit or a currency in that of the noun where CLDR has it.
- Breton, Chuvash, Basque, Luganda, Mongolian and Kinyarwanda have rules of their own, with sources in their files: the forms that
  count without a noun (Breton daou and not div; Chuvash иккӗ and not икӗ; Luganda bbiri, Kinyarwanda kabiri, of no class).
  Before a word, a unit, a currency or a percent sign Chuvash and Mongolian take the attributive form, also where that word is no
  noun, and where a year is an ordinal in Chuvash (2024 ҫулта). A noun that Breton puts inside a
  number (pemp den warn-ugent) follows it here. 120,000 and 100,020 are said alike in Kinyarwanda, 260,000 and 200,006 in Luganda.
- Decimals are reported in Chuvash and Luganda, and negative numbers in these two, Breton and Kinyarwanda: we know no word for
  the mark.
- Where the column *numbers* says "reported", digits stay, `anadil normalize` and `anadil train` refuse the text and say how
  to add rules (`anadil/text/languages/README.md`); they are never said in another language's words.

Write such numbers as words in the transcripts, which are what was said.
"""

TESTS = """
## As written, as said

The test pairs of each file. If one is wrong in your language, mend the file: `anadil/text/languages/README.md` says how.

| code | written | said |
|---|---|---|
"""


def sentences(shared: Path) -> dict[str, list[str]]:
    """Code of the language file -> its real sentences."""
    found: dict[str, list[str]] = {}
    for folder in sorted((shared / "speech" / "common_voice").iterdir()):
        code = find_language(folder.name)
        with open(folder / "validated.tsv", encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            found[code or folder.name] = [_unquoted(row["sentence"]) for row in rows]
    with open(shared / "speech" / "mboshi" / "valid.jsonl", encoding="utf-8") as file:
        found["mdw"] = [json.loads(line)["raw_text"] for line in file]
    return found


def page(shared: Path) -> str:
    """The Markdown of docs/languages.md."""
    lines = []
    real = sentences(shared)
    for code in sorted(real):
        rules = text_rules(code, TextSettings())
        result = changes(rules, real.get(code, []))
        numbers = _numbers(code)
        mapped = Counter({f"{a} → {b}": n for (a, b), n in result.mapped.items()})
        cells = [code, language_file(code).name, str(result.n_texts), numbers, _counted(result.removed)]
        lines.append(" | ".join(["", *cells, _counted(mapped), _unknown(result), ""]).strip())
    return HEAD + "\n".join(lines) + "\n" + _pairs()


def _pairs() -> str:
    """The test pairs of every file, for a speaker of the language to read."""
    lines = [
        f"| {code} | {_cell(written)} | {_cell(said)} |"
        for code in language_codes()
        for written, said in language_file(code).tests
    ]
    return PAIRS + TESTS + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Invisible characters as code points, and nothing that Markdown would read."""
    shown = "".join(c if c.isprintable() or c == " " else f"U+{ord(c):04X} " for c in text)
    return "".join(f"\\{c}" if c in "|*_`<[]$~" else c for c in shown)


def _unquoted(sentence: str) -> str:
    """Common Voice quotes a sentence that has quotes, as spreadsheets do, and nothing else."""
    if len(sentence) > 1 and sentence[0] == sentence[-1] == '"':
        return sentence[1:-1].replace('""', '"')
    return sentence


def _numbers(code: str) -> str:
    """Whose rules spell numbers out."""
    settings = language_file(code).numbers
    if settings.rules:
        return "own"
    if any(character.isdecimal() for character in text_rules(code, TextSettings()).normalize("7")):
        return "reported"
    return "CLDR, corrected" if settings.rulesets else "CLDR"


def _counted(counts: Counter[str]) -> str:
    return " ".join(f"{_shown(c)} {n}" for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _unknown(result: Changes) -> str:
    return _counted(result.outside) or "none"


def _shown(text: str) -> str:
    text = " ".join(f"U+{ord(c):04X}" if not c.isprintable() or c.isspace() else c for c in text.split(" "))
    return f"`{text}`".replace("|", "\\|")


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("ANADIL_SHARED", "../shared")))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    made = page(arguments.shared)
    if arguments.check:
        return int(PAGE.read_text(encoding="utf-8") != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
