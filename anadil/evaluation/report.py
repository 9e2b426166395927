"""The report of an evaluation: one HTML file that opens offline, with every utterance of one or two systems."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from anadil import __version__
from anadil.errors import AnadilError
from anadil.evaluation.analysis import Analysis
from anadil.evaluation.errors import aligned
from anadil.evaluation.evaluate import Scored
from anadil.evaluation.noise import InNoise
from anadil.evaluation.paired import Comparison, compare_systems
from anadil.evaluation.plots import calibration_chart, groups_chart, letters_chart, noise_chart, shortened_name, visible
from anadil.evaluation.references import doubt_of, doubtful
from anadil.evaluation.several import Part
from anadil.files import whole_folder
from anadil.manifest import Utterance, read_audio

PAGE = "report.html"
Audio = Literal["link", "embed", "none"]

EMBEDDED_RATE, MAX_EMBEDDED_BYTES = 16_000, 200_000_000
MOST_CONFUSIONS, MOST_DOUBTFUL, MOST_EXAMPLES = 40, 20, 5
MAX_CURVES_BYTES = 5_000_000


def require_report_libraries() -> None:
    """Raise AnadilError with the extra to install if Jinja2 or matplotlib is not there."""
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise AnadilError(
            f"--report needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed\n"
            "  next: pip install 'anadil[report]'"
        )


def write_report(
    folder: Path,
    title: str,
    analyses: Sequence[Analysis],
    notes: Sequence[str] = (),
    audio: Audio = "link",
    curves: Path | None = None,
    comparison: Comparison | None = None,
    parts: Sequence[tuple[str, Sequence[Part]]] = (),
    in_noise: Sequence[InNoise] = (),
) -> Path:
    """Write `folder`/report.html and return its path; the folder appears whole or not at all, replacing an earlier one.

    One analysis, or two of the same utterances in the same order, which are shown side by side; of two, the last is the
    main one unless `comparison` is given. `audio`: recordings are linked where they are, embedded as MP3, or left out.
    `curves`: the SVG of the run's curves, if it is there. `parts`: for each analysis its name, and the figures of each of
    several manifests. `in_noise`: the same ways to decode at each signal-to-noise ratio. Raises AnadilError if recordings to
    embed are too many.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # 0.1 s

    if comparison is None and len(analyses) == 2:
        comparison = compare_systems([analyses[1].evaluation.scored], [analyses[0].evaluation.scored])
        names = (analyses[1].name, analyses[0].name)
    else:
        names = (analyses[0].name, analyses[-1].name)
    sounds, said = _sounds([one.utterance for one in analyses[-1].evaluation.scored], folder, audio)
    environment = Environment(
        loader=PackageLoader("anadil.evaluation", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": _percent, "visible": visible, "code_points": _code_points, "p_value": _p_value}
    environment.filters |= {"probability": probability, "points": _points}
    main = analyses[-1]
    page = environment.get_template("report.html.jinja").render(
        title=title,
        version=__version__,
        analyses=analyses,
        main=main,
        sentences=[in_words(one) for one in analyses],
        notes=[*notes, *said],
        comparison=comparison,
        compared=names,
        plots=_plots(analyses),
        curves=_curves(curves),
        parts=parts,
        in_noise=in_noise,
        noise_plots=[
            noise_chart(
                f"In noise, {shortened_name(one.name)}",
                one.evaluation,
                [(each.name, each.ways[i][1]) for each in in_noise],
            )
            for i, one in enumerate(analyses)
            if in_noise
        ],
        confused_words=_with_examples(main),
        confused_letters=main.confused_letters.most_common(MOST_CONFUSIONS),
        doubtful=doubtful(main.evaluation.scored)[:MOST_DOUBTFUL],
        data=_as_script({"systems": [one.name for one in analyses], "rows": _rows(analyses, sounds, parts)}),
        script=_asset("report.js"),
        style=_asset("report.css"),
    )
    with whole_folder(folder) as beside:
        (beside / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def in_words(analysis: Analysis) -> str:
    """What the figures say, for a reader who is no statistician."""
    result = analysis.evaluation
    text = f"Of 100 words that were said, about {100 * min(result.wer, 99):.0f} come out wrong: replaced, missing or added."
    n = len(result.scored)
    right = f"{n - result.wrong_sentences:,} of {n:,} sentences are entirely right."
    if result.wer_interval is None:
        return f"{text} So few utterances were tested that a margin cannot be given. {right}"
    low, high = (100 * end for end in result.wer_interval)
    others = (
        "other speakers of the same kind" if result.resamples == "speakers" else "other sentences of the same speakers"
    )
    text += f" With {others} it is from {low:.0f} to {high:.0f}; such a statement holds for 95 of 100 test sets."
    return f"{text} {right}"


def columns(reference: str, hypotheses: Sequence[str]) -> list[list[str]]:
    """The alignment of several hypotheses with one reference: columns [reference word, word of each hypothesis].

    "" where there is none; where all have none is no column.
    """
    words = reference.split()
    gaps: list[list[list[str]]] = [[[] for _ in hypotheses] for _ in range(len(words) + 1)]
    own: list[list[str]] = [["" for _ in hypotheses] for _ in words]
    for system, hypothesis in enumerate(hypotheses):
        place = 0
        for ours, theirs in aligned(words, hypothesis.split()):
            if ours is None:
                gaps[place][system].append(theirs or "")
            else:
                own[place][system] = theirs or ""
                place += 1
    found: list[list[str]] = []
    for place, gap in enumerate(gaps):
        found += [["", *inserted] for inserted in zip_longest(*gap, fillvalue="")]
        if place < len(words):
            found.append([words[place], *own[place]])
    return found


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is Hebrew, Arabic or another that is written from the right."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False


def _rows(
    analyses: Sequence[Analysis], sounds: Sequence[str | None], parts: Sequence[tuple[str, Sequence[Part]]]
) -> list[dict[str, Any]]:
    rows = []
    manifests: dict[str, list[int]] = defaultdict(list)  # line to the numbers of the manifests that have its utterance
    for number, part in enumerate(parts[-1][1] if parts else ()):
        for one in part.evaluation.scored if part.evaluation else ():
            manifests[one.utterance.source].append(number)
    of_each = [one.evaluation.scored for one in analyses]
    for number, (sound, *own) in enumerate(zip(sounds, *of_each, strict=True)):
        first: Scored = own[-1]
        utterance = first.utterance
        row: dict[str, Any] = {
            "i": number,
            "f": Path(utterance.audio_filepath).name + (f" at {utterance.offset:.1f} s" if utterance.offset else ""),
            "x": columns(first.reference, [one.hypothesis for one in own]),
            "w": [_rounded(one.words.rate) for one in own],
            "c": [_rounded(one.characters.rate) for one in own],
        }
        more = {
            "s": utterance.speaker,
            "d": utterance.duration and round(utterance.duration, 2),
            "q": utterance.extra.get("snr_db"),
            "k": doubt_of(first),
            "a": sound,
            "m": manifests.get(utterance.source),
            "r": 1 if is_right_to_left(first.reference or first.hypothesis) else None,
        }
        rows.append(row | {key: value for key, value in more.items() if value is not None})
    return rows


def _rounded(rate: float) -> float:
    return round(min(rate, 99.0), 4)


def _sounds(utterances: Sequence[Utterance], folder: Path, audio: Audio) -> tuple[list[str | None], list[str]]:
    """The source of the audio player of each utterance, and what a reader must know of those that have none."""
    if audio == "none":
        return [None] * len(utterances), []
    if audio == "embed":
        return _embedded(utterances)
    missing = sum(not Path(one.audio_filepath).is_file() for one in utterances)
    notes = [f"{missing:,} of {len(utterances):,} recordings are not where the manifest says"] if missing else []
    return [_link(one, folder) for one in utterances], notes


def _link(one: Utterance, folder: Path) -> str | None:
    if not Path(one.audio_filepath).is_file():
        return None
    try:
        path = os.path.relpath(os.path.abspath(one.audio_filepath), os.path.abspath(folder))
    except ValueError:  # another drive on Windows
        return Path(one.audio_filepath).absolute().as_uri()
    end = f",{one.offset + one.duration:.3f}" if one.duration is not None else ""
    return quote(Path(path).as_posix()) + (f"#t={one.offset:.3f}{end}" if one.offset else "")


def _embedded(utterances: Sequence[Utterance]) -> tuple[list[str | None], list[str]]:
    import soundfile

    found: list[str | None] = []
    n_bytes = 0
    for one in utterances:
        try:
            samples = read_audio(one, EMBEDDED_RATE)
        except AnadilError:
            found.append(None)
            continue
        file = io.BytesIO()
        soundfile.write(file, samples, EMBEDDED_RATE, format="MP3", subtype="MPEG_LAYER_III")
        n_bytes += file.tell()
        if n_bytes > MAX_EMBEDDED_BYTES:
            raise AnadilError(
                f"the recordings take more than {MAX_EMBEDDED_BYTES / 1e6:,.0f} MB, too much for one page\n"
                "  next: --audio link, or a smaller manifest"
            )
        found.append("data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii"))
    unreadable = sum(one is None for one in found)
    notes = [f"{unreadable:,} of {len(utterances):,} recordings could not be read"] if unreadable else []
    return found, notes


def _plots(analyses: Sequence[Analysis]) -> list[str]:
    """The SVG pictures: error by duration, speaker, SNR estimate; letters confused; calibration."""
    main, found = analyses[-1], []
    titles = {"duration": "Errors by duration", "speaker": "Errors by speaker", "snr_db": "Errors by SNR estimate"}
    for key, title in titles.items():
        if key in main.groups:
            found.append(groups_chart(title, {one.name: one.groups.get(key, ()) for one in analyses}))
    letters = letters_chart(f"Letters confused, {shortened_name(main.name)}", main.confused_letters)
    bins = {one.name: one.calibration for one in analyses if one.calibration}
    return found + ([letters] if letters else []) + ([calibration_chart("Confidence and truth", bins)] if bins else [])


def _curves(path: Path | None) -> str | None:
    """The picture as a data: URL. Inside an <img> nothing in it can run, whoever wrote it."""
    if path is None or not path.is_file() or path.stat().st_size > MAX_CURVES_BYTES:
        return None
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _with_examples(analysis: Analysis) -> list[tuple[str, str, int, list[int]]]:
    """The most frequent confusions of words: reference, hypothesis, number, and the first utterances that have it."""
    most: Counter[tuple[str, str]] = analysis.confused_words
    wanted = dict(most.most_common(MOST_CONFUSIONS))
    examples: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, pairs in enumerate(analysis.word_pairs):
        for pair in dict.fromkeys((a or "", b or "") for a, b in pairs if a != b):
            if pair in wanted and len(examples[pair]) < MOST_EXAMPLES:
                examples[pair].append(number)
    return [(a, b, n, examples[a, b]) for (a, b), n in wanted.items()]


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or value == float("inf") else f"{100 * value:.{digits}f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def probability(value: float) -> str:
    """A probability that is estimated: neither a model nor 1,000 resamples can say 100 %."""
    return "above 99.9 %" if value > 0.999 else "below 0.1 %" if value < 0.001 else _percent(value)


def _p_value(p: float) -> str:
    return "below 0.0001" if p < 0.0001 else f"{p:.2g}"


def _code_points(text: str) -> str:
    return " ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".strip() for one in text) or "nothing"


def _as_script(data: object) -> str:
    """JSON that can stand inside <script>: "<" is escaped, so that no text can end the element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("anadil.evaluation").joinpath(name).read_text(encoding="utf-8")
