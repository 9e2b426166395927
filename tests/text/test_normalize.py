"""The engine: what no single language file tests, and what the user's own YAML can say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.text.alphabet import label_warnings, labels_from_text
from anadil.text.changes import changes
from anadil.text.rules import TextRules, TextSettings, describe_rules, first_rules, rules_from_dict, text_rules
from tests.support.labels import decoded

ROOT = Path(__file__).parents[2]
CIRCUMFLEX = {"â": "a", "î": "i", "û": "u"}


def rules(language: str, labels: str = "", **settings: object) -> TextRules:
    return text_rules(language, TextSettings.model_validate(settings), list(labels))


def own(tmp_path: Path, yaml: str) -> str:
    (tmp_path / "own.yaml").write_text(yaml, encoding="utf-8")
    return str(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3", "bir nokta iki nokta üç"),
        ("3.5", "üç nokta beş"),  # the point is no Turkish decimal mark
        ("12:75", "12:75"),  # no time, no word for the mark: left as it is, and reported
        ("31.02.2020'de", "otuz bir şubat iki bin yirmi'de"),
        ("45.13.2020", "kırk beş on üç iki bin yirmi"),  # no date
        ("1 234 567 kişi", "bir milyon iki yüz otuz dört bin beş yüz altmış yedi kişi"),
        ("+90 (532) 123 45 67", "artı dokuz sıfır beş üç iki bir iki üç dört beş altı yedi"),
        ("3G ve B12", "üç g ve b on iki"),
        ("٣ kişi, １０ ev", "üç kişi on ev"),
        ("1\u00ad9\u200b2\ufeff3", "bin dokuz yüz yirmi üç"),  # nothing invisible parts a number
        ("sayısı 3. Sonra", "sayısı üç sonra"),  # no ordinal before a capital
        ("IV. Murat, VI. bölüm; XX. yüzyıl", "dördüncü murat altıncı bölüm yirminci yüzyıl"),
        ("100.000'inci, 21.inci, No:12", "yüz bininci yirmi birinci numara on iki"),
        ("M. Kemal", "m kemal"),  # an initial is no numeral
        ("20 TL'lik, 1,5 milyon TL", "yirmi lira'lık bir virgül beş milyon lira"),
        ("1995-2000 arası 5 – 10", "bin dokuz yüz doksan beş iki bin arası beş on"),
        ("%5-10", "yüzde beş on"),
        ("x²+y=5", "x² artı y eşittir beş"),
        ("https://a.com/b?c=1.", "a nokta com bölü b soru işareti c eşittir bir"),
        ("00:05 ve 24:00", "sıfır sıfır beş ve yirmi dört"),
        ("ﬁlm ＡＢＣ", "film abc"),
        ("ad\u0131 Q\u0307", "adı q\u0307"),  # a mark that composes with nothing stays, to be reported
    ],
)
def test_turkish(text: str, expected: str) -> None:
    assert rules("tr").normalize(text) == expected


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({"map": CIRCUMFLEX}, "kâr Îmâ", "kar ima"),
        ({"apostrophe": "join"}, "İstanbul'da 1923'te", "istanbulda bin dokuz yüz yirmi üçte"),
        ({"apostrophe": "split"}, "İstanbul’da", "istanbul da"),
        ({"hyphen": "inside"}, "e-posta - ", "e-posta"),
        ({"hyphen": "join"}, "e-posta", "eposta"),
        ({"digits": "keep"}, "7. ev, %20", "7 ev %20"),
        ({"digits": "drop"}, "7. ev", "ev"),
        ({"look_alikes": "map"}, "\u0430nne \u0430", "anne \u0430"),  # Cyrillic а: inside a Latin word, and alone
        ({"look_alikes": "keep"}, "\u0430nne", "\u0430nne"),
        ({"drop": "%"}, "%20", "yirmi"),  # what the rules drop is not read out
        ({"map": {"€": "e"}}, "5 €", "beş e"),
    ],
)
def test_the_config_changes_the_rules(settings: dict[str, object], text: str, expected: str) -> None:
    assert rules("tr", **settings).normalize(text) == expected


def test_the_users_own_file_goes_over_the_languages(tmp_path: Path) -> None:
    path = own(tmp_path, "numbers: {suffix: join}\nabbreviations: {Bld.: belediye}\nmap: {â: a}\n")
    assert rules("tr", rules=path).normalize("Bld. 1923'te kâr, Dr. X 3,5 km'de") == (
        "belediye bin dokuz yüz yirmi üçte kar doktor x üç virgül beş kilometrede"
    )


def test_own_numbers_for_a_language_that_cldr_does_not_spell(tmp_path: Path) -> None:
    yaml = """
numbers:
  rules: {0: nol, 1: bir, 2: iki, 10: "on[ →→]", 20: "yirmi[ →→]", "-x": "eksi →→"}
  decimal: ","
  decimal_word: virgül
"""
    crimean = rules("crh", rules=own(tmp_path, yaml))
    assert crimean.normalize("12 ev, 21,2") == "on iki ev yirmi bir virgül iki"
    again = rules_from_dict(json.loads(json.dumps(crimean.to_dict())), [])
    assert again.normalize("22") == "yirmi iki"


def test_own_rules_have_further_rule_sets_a_radix_and_apostrophes(tmp_path: Path) -> None:
    yaml = """
numbers:
  rules: { 0: nul, 1: ien, 2: twa, 3: "t'rij", 4/4: fjouwer, 5/4: "→→ en ←%%of← fjouwer" }
  rulesets: { "%%of": { 1: ien, 2: dûbel } }
ordinals: { rules: { 0: =%spellout-numbering=de }, suffixes: { de: "" } }
"""
    frisian = rules("fy", rules=own(tmp_path, yaml))
    assert frisian.normalize("3, 5, 10 en 2de") == "t'rij ien en ien fjouwer twa en dûbel fjouwer en twade"


def test_a_rule_of_ones_own_corrects_one_of_cldr_and_leaves_the_others(tmp_path: Path) -> None:
    yaml = "numbers: {rulesets: {spellout-cardinal: {8: seggiz}}}\nordinals: {rules: {8: seggizinci}}"
    corrected = rules("tr", rules=own(tmp_path, yaml))
    assert corrected.normalize("8, 18, 19; 8'inci") == "seggiz on seggiz on dokuz seggizinci"
    assert rules("tr").normalize("8") == "sekiz"  # CLDR's rules are shared, so a correction must not reach others


@pytest.mark.parametrize("language", ["fy", "mdw", "und", "yo"])
def test_digits_without_rules_stay_and_are_an_error_that_says_how_to_add_some(language: str) -> None:
    found = rules(language, "abc ")
    assert found.normalize("ab 3,5 c") == "ab 3,5 c"
    with pytest.raises(
        AnadilError, match=r"no label for '3' .*\n.*no rules to spell numbers.*\n.*\n  next: .*numbers\.rules"
    ):
        found.encode("ab 3,5 c")
    assert labels_from_text(found, ["ab 3 c"]).labels == (" ", "a", "b", "c")
    assert changes(found, ["ab 3"]).unspelled == {"3": 1}


@pytest.mark.parametrize(
    ("yaml", "what"),
    [
        ("numbres: {}", r"own\.yaml: unknown key 'numbres'; did you mean 'numbers'\?"),
        ("numbers: {decimel: x}", r"unknown key 'numbers.decimel'; did you mean 'numbers.decimal'\?"),
        ("casing: turkish", r"casing: Input should be .*'turkic'"),
        ("alphabet: [a, b, a]", "letters that repeat: 'a'"),
        ("alphabet: [a, e\u0301, é]", "letters that repeat: 'é'"),
        ("map: {a: b, b: c}", "'b' is mapped again"),
        ("map: {x: '.'}", "'x' is mapped to '.', which the text rules change to ' '"),
        ("equivalents: {a: x, b: x}", "'x' cannot stand for both 'b' and another letter"),
        ("date: {months: [ocak]}", "expected 12 months, found 1"),
        ("units: {km: {one: x}}", "plural forms are .* other is required"),
        ("alphabet: [a, B]", r"letters that the text rules change or drop.*'B'"),
        ("tests: [[evet, hayır]]", r"own\.yaml: test 1 fails: 'evet' gives 'evet', not 'hayır'"),
        ("percent: '{nubmer}'\ntests: [['%5', beş]]", r"\{nubmer\}"),
        ("numbers: {rules: {20: 'yirmi[ →→'}}", r"numbers.rules: 20: 'yirmi\[ →→' is not in CLDR's notation: a bracket or an"),
        ("numbers: {rules: {20: 'yirmi →'}}", "numbers.rules: 20: .* is not in CLDR's notation"),
        ("numbers: {rules: {twenty: yirmi}}", "numbers.rules: twenty: 'yirmi' .*: expected a number such as 20 or 60/20"),
        ("numbers: {rules: {60/x: yirmi}}", "numbers.rules: 60/x: 'yirmi' is not in CLDR's notation"),
        ("numbers: {rules: {60/1: yirmi}}", "numbers.rules: 60/1: 'yirmi' .*: expected a number such as 20 or 60/20"),
        ("numbers: {rules: {0: '→%%tens→'}}", r"numbers.rules: 0: .* refers to a rule set 'tens'; there are spellout-numbering"),
        ("numbers: {rulesets: {x: {0: =%spellout-numbring=}}}", "numbers.rulesets.x: 0: .* 'spellout-numbring'; there are "),
        ("ordinals: {rules: {1: 'birinci]'}}", r"ordinals.rules: 1: 'birinci\]' is not in CLDR's notation"),
        ("- a", "expected `key: value` lines"),
    ],
)  # fmt: skip
def test_a_rules_file_with_a_mistake_is_refused(tmp_path: Path, yaml: str, what: str) -> None:
    with pytest.raises(AnadilError, match=what):
        rules("tr", rules=own(tmp_path, yaml))


def test_a_rules_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"name: T\xfcrk\xe7e\n")
    with pytest.raises(AnadilError, match="own.yaml: not valid YAML"):
        rules("tr", rules=str(tmp_path / "own.yaml"))
    with pytest.raises(AnadilError, match="file of text rules not found: .*gone.yaml"):
        rules("tr", rules=str(tmp_path / "gone.yaml"))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(AnadilError, match=r"half a surrogate pair \(U\+D83D\) at character 3\n  next: "):
        rules("tr").normalize("ab\ud83d")


def test_what_was_done_is_counted_with_examples() -> None:
    found = changes(rules("tr"), ["Dr. Ali’nin 5 km’si, \u0430nne!", "x\u00ady 5 km"])
    assert found.removed == {",": 1, "!": 1, "\u00ad": 1}
    assert found.mapped == {("’", "'"): 2} and found.mixed == {"\u0430nne": 1}
    assert found.said == {("Dr.", "doktor"): 1, ("5 km", "beş kilometre"): 2}
    assert found.examples["!"].startswith("Dr. Ali")
    assert found.n_texts == found.n_changed == 2


def test_labels_from_text_warn_of_what_cannot_be_learnt() -> None:
    found = labels_from_text(rules("tr"), ["a b c"] * 5 + ["ж q\u0307"])
    assert found.labels == (" ", "a", "b", "c", "q", "\u0307", "ж")
    rare, orphans, strange = label_warnings([(rules("tr"), found)])
    assert " " not in labels_from_text(rules("tr"), ["a b"]).rare
    assert "fewer than 5 times" in rare and "'ж' (U+0436 CYRILLIC SMALL LETTER ZHE) x 1" in rare
    assert "U+0307 COMBINING DOT ABOVE" in orphans
    assert "not in the alphabet of Turkish" in strange and "ж" in strange


def test_the_order_of_labels_does_not_depend_on_the_process() -> None:
    code = (
        "from anadil.text.rules import *; from anadil.text.alphabet import *\n"
        "print(labels_from_text(text_rules('vi', TextSettings()), ['ngày hai tháng chín năm một nghìn']).labels)"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT,
                       capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_which_rules_are_used_is_said() -> None:
    assert describe_rules(rules("tr-TR"), TextSettings()) == "text rules: Turkish (languages/tr.yaml)"
    settings = TextSettings(drop="x", digits="keep")
    assert "changed by text.drop, text.digits" in describe_rules(text_rules("tr", settings), settings)
    assert "generic" in describe_rules(rules("ha"), TextSettings())
    saved = TextSettings(saved=rules("tr").to_dict())
    assert describe_rules(text_rules("tr", saved), saved) == "text rules: Turkish (as saved)"


def test_saved_rules_need_no_file_and_cannot_be_changed_by_halves() -> None:
    saved = rules("tr", "abcı '", map=CIRCUMFLEX).to_dict()
    assert rules("und", saved=saved).normalize("KÂĞIT 5") == "kağıt beş"
    with pytest.raises(ValueError, match="text.saved holds the complete rules; remove it to set lowercase"):
        TextSettings(saved=saved, lowercase=False)


def test_saved_rules_decode_without_a_normalizer(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = rules("tr", "abcı '").to_dict()

    def refuse(*_: object) -> None:
        raise AssertionError("a Normalizer was built")

    monkeypatch.setattr("anadil.text.normalize.Normalizer.__init__", refuse)
    read = rules_from_dict(saved, list("abcı '"))
    assert decoded(read, [0, 4, 1]) == "a b"
    assert text_rules("tr", TextSettings(saved=saved), list("abcı '"), check=False) == read
    assert decoded(first_rules({}, "tr", list("ab")), [1]) == "b"
    with pytest.raises(AnadilError, match="labels that repeat: 'a'; an empty label; digits"):
        rules_from_dict(saved, ["a", "a", "", "7"])
    with pytest.raises(AssertionError, match="a Normalizer was built"):
        rules("tr", "ab")


def test_saved_rules_in_a_config_are_checked_against_its_labels() -> None:
    saved = rules("tr", "ab").to_dict()
    with pytest.raises(AnadilError, match="change or drop.*: 'B'"):
        rules("und", "aB", saved=saved)
    with pytest.raises(AnadilError, match="'x' is mapped to '.', which the text rules change to ' '"):
        rules("und", "a", saved=saved | {"map": {"x": "."}})


def test_a_model_of_the_first_version_reads_as_it_did() -> None:
    old = first_rules({"lowercase": True, "map": {"’": "'"}, "drop": ".,?", "unknown": "error"}, "tr", list("abı '3"))
    assert old.normalize("IA’b, 3. Dr.") == "ıa'b 3 dr"
    assert rules_from_dict({"version": 1, "language": "tr", "map": {}, "drop": "?", "unknown": "drop", "lowercase": True},
                           list("a")).normalize("A’?b") == "a"  # fmt: skip
