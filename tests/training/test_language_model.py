"""The language model that training adds to `best`: made, tuned, kept or not, exported, and used."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import anadil
from anadil import audio
from anadil.cli.main import app
from anadil.data.examples import Example
from anadil.decoding.decoder import Decoder
from anadil.decoding.label_lm import LabelLM
from anadil.decoding.language_model import LABELS as MODEL
from anadil.decoding.language_model import SETTINGS, LanguageModel, LmWeights
from anadil.decoding.language_model import WORDS as WORD_MODEL
from anadil.errors import AnadilError
from anadil.evaluation import word_confidence
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Pruning, estimate
from anadil.lm.held_out import model_for
from anadil.lm.model import NGramModel
from anadil.manifest import Utterance, read_manifests
from anadil.recognition.tune_lm import ToTune, tune_on_manifest
from anadil.text.rules import TextSettings, text_rules
from anadil.training import language_model
from anadil.training.config import Config, LmSettings
from anadil.training.language_model import add_language_model, build_label_ngram
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare
from anadil.training.run import Run, Validation
from anadil.training.train import train
from tests.support.micro import micro_data, speak, write_corpus

WORDS = ("abca", "bacb", "cab", "abb", "ca")
LABELS = [" ", "a", "b", "c"]


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    warn = say

    def __contains__(self, text: str) -> bool:
        return any(text in one for one in self.said)


def sentences(n: int, seed: int) -> list[str]:
    """Different sentences of four of the five words, in which each word mostly follows one other."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        at = rng.randrange(5)
        steps = [at := (at + 1 if rng.random() < 0.8 else rng.randrange(5)) % 5 for _ in range(4)]
        found[" ".join(WORDS[i] for i in steps)] = None
    return list(found)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/train.jsonl, b/valid.jsonl in noise, c/valid.jsonl without, and `short`, the run of a model that never heard noise."""
    folder = tmp_path_factory.mktemp("speech")
    texts = sentences(160, seed=0)
    write_corpus(folder / "a", texts[:120], "train.jsonl")
    write_corpus(folder / "b", texts[120:], "valid.jsonl")
    write_corpus(folder / "c", texts[120:], "valid.jsonl")
    for i, text in enumerate(texts[120:]):
        clean = speak(text, seed=i)
        noise = np.random.default_rng(i).normal(0, 0.12, len(clean)).astype(np.float32)
        audio.write(folder / f"b/clips/{i}.wav", np.clip(clean + noise, -1, 1), 16000)
    train(config_of(folder, epochs=5, lm=None), folder / "short")
    return folder


def config_of(folder: Path, lm: dict[str, Any] | None = None, **training: Any) -> Config:
    data = micro_data(folder / "a/train.jsonl", folder / "b/valid.jsonl", batch_seconds=30, **training)
    return Config.model_validate(data | {"tokenizer": {"labels": LABELS}, "lm": lm})


def add(folder: Path, out: Path, config: Config, **changes: Any) -> tuple[Notes, Any]:
    """The end of a run whose weights are those of `short`."""
    shutil.copytree(folder / "short/best", out / "best")
    data = replace(prepare(config, out, Silent()), **changes)
    run = Run(out, 1, 1.0, 1, 5.0, best=Validation(1.0, 1.0, 1.0))
    notes = Notes()
    return notes, add_language_model(data, run, torch.device("cpu"), notes)


def test_a_model_that_helps_is_kept_exported_and_used(speech: Path, tmp_path: Path) -> None:
    notes, tuned = add(speech, tmp_path, config_of(speech, lm={}))
    assert tuned.helps and "language model: " in notes and "kept in" in notes, notes.said
    best = tmp_path / "best"
    assert "## Language model" in (best / "README.md").read_text(encoding="utf-8")
    anadil.export(best, tmp_path / "exported")
    for name in (MODEL, SETTINGS):
        assert (tmp_path / "exported" / name).read_bytes() == (best / name).read_bytes()
    valid = speech / "b/valid.jsonl"
    with_lm, without = (anadil.load(tmp_path / "exported", lm=lm) for lm in (True, False))
    assert with_lm.lm is not None and without.lm is None
    clip = speech / "b/clips/0.wav"
    assert with_lm.transcribe(clip).words[0].end > 0
    out = tmp_path / "eval"
    arguments = ["evaluate", str(tmp_path / "exported"), str(valid), "--out", str(out), "--json", str(out / "f.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "greedy, no LM" in done.output and "with LM: " in done.output, done.output
    figures = json.loads((out / "f.json").read_text())
    assert figures["lm"]["lm_weight"] == tuned.weights.lm_weight and figures["cer"] < figures["greedy"]["cer"]
    assert figures["greedy"]["cer_interval"] and figures["cer_interval"]
    rows = [json.loads(line) for line in (out / "hypotheses.jsonl").read_text().splitlines()]
    assert any(row["pred_text"] != row["pred_text_greedy"] for row in rows)
    done = CliRunner().invoke(app, [*arguments, "--no-lm", "--force"])
    assert json.loads((out / "f.json").read_text())["lm"] is None and "with LM" not in done.output
    assert json.loads((out / "f.json").read_text())["cer"] == figures["greedy"]["cer"]
    greedy = CliRunner().invoke(app, ["transcribe", str(tmp_path / "exported"), str(clip), "--no-lm"]).stdout.strip()
    assert greedy == without.transcribe(clip).text == rows[0]["pred_text_greedy"]


def test_lm_tune_saves_what_helps(speech: Path, tmp_path: Path) -> None:
    model, arpa, valid = tmp_path / "best", tmp_path / "lm.arpa.gz", speech / "b/valid.jsonl"
    shutil.copytree(speech / "short/best", model)
    run = CliRunner().invoke
    done = run(app, ["lm", "tune", str(model), str(valid)])
    assert done.exit_code == 1 and "no language model of its own" in done.output
    build = ["lm", "build", str(speech / "a/train.jsonl"), "--model", str(model), "--unit", "char", "--order", "5"]
    assert run(app, [*build, "--out", str(arpa)]).exit_code == 0
    tune = ["lm", "tune", str(model), str(valid), "--lm", str(arpa), "--beam", "8"]
    done = run(app, [*tune, "--json", str(tmp_path / "tuned.json")])
    assert done.exit_code == 0 and "chosen" in done.output, done.output
    figures = json.loads((tmp_path / "tuned.json").read_text())
    assert figures["helps"] and figures["with_lm"]["cer"] < figures["greedy"]["cer"]
    assert json.loads((model / SETTINGS).read_text()) == figures["weights"] and figures["weights"]["beam"] == 8
    done = run(app, tune)
    assert done.exit_code == 1 and "--force" in done.output
    assert run(app, ["lm", "tune", str(model), str(valid), "--force"]).exit_code == 0  # its own, once more
    whole = arpa.read_bytes()
    arpa.write_bytes(whole[: len(whole) // 2])
    done = run(app, [*tune, "--force"])
    assert done.exit_code == 1 and "cannot be read to its end" in done.output


def test_lm_tune_takes_a_model_of_words_and_the_card_says_so(speech: Path, tmp_path: Path) -> None:
    model, arpa, valid = tmp_path / "best", tmp_path / "words.arpa", speech / "b/valid.jsonl"
    shutil.copytree(speech / "short/best", model)
    run = CliRunner().invoke
    build = ["lm", "build", str(speech / "a/train.jsonl"), "--model", str(model), "--order", "2", "--out", str(arpa)]
    assert run(app, build).exit_code == 0
    card = (model / "README.md").read_text(encoding="utf-8")
    (model / "README.md").write_text(f"{card}\n## Licence\n\nMine.\n", encoding="utf-8")
    tune = ["lm", "tune", str(model), str(valid), "--lm", str(arpa), "--json", str(tmp_path / "tuned.json")]
    done = run(app, tune)
    assert done.exit_code == 0 and "unknown" in done.output and "label bonus" not in done.output, done.output
    figures = json.loads((tmp_path / "tuned.json").read_text())
    assert figures["helps"] and figures["with_lm"]["wer"] < figures["greedy"]["wer"]
    assert figures["weights"]["lm_weight"] == 0 and (model / WORD_MODEL).exists() and not (model / MODEL).exists()
    assert run(app, [*tune, "--force"]).exit_code == 0
    card = (model / "README.md").read_text(encoding="utf-8")
    assert card.count("## Language model") == card.count("2-gram of words") == 1 and card.count("Mine.") == 1
    anadil.export(model, tmp_path / "exported")
    for name in (WORD_MODEL, SETTINGS):
        assert (tmp_path / "exported" / name).read_bytes() == (model / name).read_bytes()
    clip = str(speech / "b/clips/0.wav")
    done = run(app, ["transcribe", str(tmp_path / "exported"), clip])
    assert done.stdout.strip() == anadil.load(model).transcribe(clip).text
    done = run(app, ["evaluate", str(tmp_path / "exported"), str(valid)])
    assert done.exit_code == 0 and "2-gram of words" in done.output


def test_a_model_of_words_is_added_to_one_of_labels(speech: Path, tmp_path: Path) -> None:
    add(speech, tmp_path, config_of(speech, lm={}))
    recognizer = anadil.load(tmp_path / "best")
    assert recognizer.lm is not None
    words = ngram_of_words(sentences(120, seed=0))
    utterances = read_manifests([speech / "b/valid.jsonl"])
    tuned, found, _ = tune_on_manifest(recognizer, ToTune(None, words), utterances)
    assert tuned.was == "before" and "before" in tuned.to_dict()
    assert found.labels is recognizer.lm.labels and found.words is words and found.weights.word_weight > 0
    assert {weights.lm_weight for weights, _, _ in tuned.tried} > {recognizer.lm.weights.lm_weight}
    both = replace(recognizer, lm=found)
    again, found_again, _ = tune_on_manifest(both, ToTune(found.labels, found.words), utterances)
    assert found_again.words is words and again.weights.word_weight > 0


def ngram_of_words(texts: list[str]) -> NGramModel:
    with Store(1 << 30) as store:
        return model_for(estimate(count_ngrams(encode(texts, store), 2, store), store, 2, Pruning((0, 0))))


def test_transcribe_has_alternatives_and_hotwords(speech: Path, tmp_path: Path) -> None:
    model, clip = str(speech / "short/best"), str(speech / "b/clips/0.wav")
    run = CliRunner().invoke
    done = run(app, ["transcribe", model, clip, "--format", "json", "--n-best", "5"])
    found = json.loads(done.stdout)
    assert len(found["alternatives"]) == 5 and found["alternatives"][0]["text"] == found["text"]
    scores = [one["score"] for one in found["alternatives"]]
    assert scores == sorted(scores, reverse=True)
    assert "alternatives" not in json.loads(run(app, ["transcribe", model, clip, "--format", "json"]).stdout)
    done = run(app, ["transcribe", model, clip, "--n-best", "5"])
    assert done.exit_code == 2 and "--format json" in done.output
    for option in (["--n-best", "2", "--format", "json"], ["--hotword", "ab"]):
        done = run(app, ["transcribe", model, clip, *option, "--engine", "local", "--out", str(tmp_path / "shards")])
        assert (
            done.exit_code == 2
            and "goes with neither --engine" in " ".join(done.output.replace("│", " ").split())
            and not (tmp_path / "shards").exists()
        )
    (tmp_path / "hotwords.txt").write_text("ccc:30\nABC\n", encoding="utf-8")
    with_hotwords = run(app, ["transcribe", model, clip, "--hotwords", str(tmp_path / "hotwords.txt")])
    assert with_hotwords.exit_code == 0 and "ccc" in with_hotwords.stdout.split(), with_hotwords.output
    direct = anadil.load(model).transcribe(clip, hotwords={"ccc": 30, "abc": 4}, n_best=2)
    assert direct.text == with_hotwords.stdout.strip() and len(direct.alternatives) == 2
    assert run(app, ["transcribe", model, clip, "--hotword", "ccc:30"]).stdout.split().count("ccc")
    done = run(app, ["transcribe", model, clip, "--hotword", "xyz"])
    assert done.exit_code == 1 and "'xyz': no label for 'x', 'y', 'z'" in done.output
    done = run(app, ["transcribe", model, clip, "--hotwords", str(tmp_path / "nothing.txt")])
    assert done.exit_code == 1 and "nothing.txt" in done.output


def test_what_is_interrupted_is_named_and_can_be_made_later(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as raised:
        patched.setattr(language_model, "tune", interrupted)
        add(speech, tmp_path, config_of(speech, lm={}))
    first, *commands = str(raised.value).splitlines()
    assert "is usable; only its language model is missing" in first and len(commands) == 2
    best = tmp_path / "best"
    assert anadil.load(best).lm is None and not (best / SETTINGS).exists()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        program, *arguments = command.split()
        done = CliRunner().invoke(app, arguments)
        assert program == "anadil" and done.exit_code == 0, done.output
    assert anadil.load(best).lm is not None


def test_word_confidence_is_calibrated_at_the_end_and_used(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_confidence, "MIN_WORDS", 20)
    notes, tuned = add(speech, tmp_path, config_of(speech, lm={}))
    assert "word confidence, greedy: expected calibration error" in notes, notes.said
    best = tmp_path / "best"
    assert "## Word confidence" in (best / "README.md").read_text(encoding="utf-8")
    found = json.loads((best / SETTINGS).read_text())
    assert found["greedy_confidence"]["posterior_slope"] == 0 and (
        found["confidence"] is None or found["confidence"]["slope"] >= 0
    )
    assert found["lm_weight"] == tuned.weights.lm_weight
    clip = speech / "b/clips/0.wav"
    for lm in (True, False):
        recognizer = anadil.load(best, lm=lm)
        raw = replace(recognizer.decoder, word_confidence=None)
        ((_, unmapped),) = recognizer.transcribe_files([(clip, "mix")], raw)
        mapped = recognizer.transcribe(clip)
        assert not isinstance(unmapped, AnadilError)
        assert [word.text for word in mapped.words] == [word.text for word in unmapped.words]
        same = [word.confidence for word in mapped.words] == [word.confidence for word in unmapped.words]
        assert same == (recognizer.decoder.word_confidence is None) and not (same and not lm)
    anadil.export(best, tmp_path / "exported")
    exported, own = anadil.load(tmp_path / "exported").transcribe(clip), anadil.load(best).transcribe(clip)
    assert [w.confidence for w in exported.words] == pytest.approx([w.confidence for w in own.words], abs=1e-3)


def test_lm_tune_says_when_a_model_does_not_help(speech: Path, tmp_path: Path) -> None:
    """Speech without noise, which greedy decoding reads without an error."""
    model, arpa = tmp_path / "best", tmp_path / "lm.arpa"
    shutil.copytree(speech / "short/best", model)
    build = ["lm", "build", str(speech / "a/train.jsonl"), "--model", str(model), "--unit", "char", "--out", str(arpa)]
    assert CliRunner().invoke(app, build).exit_code == 0
    done = CliRunner().invoke(app, ["lm", "tune", str(model), str(speech / "c/valid.jsonl"), "--lm", str(arpa)])
    assert done.exit_code == 1 and "don't use this language model" in done.output, done.output
    assert not (model / SETTINGS).exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"valid": []}, "no validation data"),
        ({"train": 99}, "different training texts are too few"),
        ({"valid": 19}, "validation utterances are too few"),
    ],
)
def test_what_cannot_be_made_is_reported(speech: Path, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    config = config_of(speech, lm={})
    data = prepare(config, tmp_path, Silent())
    cut = {name: value if isinstance(value, list) else getattr(data, name)[:value] for name, value in change.items()}
    notes, tuned = add(speech, tmp_path, config, **cut)
    assert tuned is None and reason in notes and not (tmp_path / "best" / SETTINGS).exists()


def test_lm_null_makes_none_and_a_useless_one_is_not_kept(speech: Path, tmp_path: Path) -> None:
    notes, _ = add(speech, tmp_path / "null", config_of(speech, lm=None))
    assert notes.said == []
    config = config_of(speech, lm={})
    clean = config.model_copy(
        update={"data": config.data.model_copy(update={"valid": [str(speech / "c/valid.jsonl")]})}
    )
    notes, _ = add(speech, tmp_path / "useless", clean)
    assert "does not help beyond chance" in notes and not (tmp_path / "useless/best" / SETTINGS).exists()


def example(text: str, **extra: Any) -> Example:
    utterance = Utterance("1.wav", 1.0, text, extra=extra)
    return Example(utterance, tuple(LABELS.index(letter) for letter in text))


def ngram(train: Sequence[Example], valid: Sequence[Example] = (), **settings: Any) -> language_model.Built:
    return build_label_ngram(LABELS, train, valid, LmSettings(**settings), Silent())


def test_each_text_counts_once_and_pseudo_labels_do_not_count() -> None:
    texts = [example(text) for text in sentences(60, seed=1)]
    once = ngram(texts, order=3)
    assert once.n_texts == 60
    again = ngram([*texts, *texts[:30] * 5, example("ccc ccc", pseudo_label=True)], order=3)
    assert again.n_ngrams == once.n_ngrams
    assert np.array_equal(again.model.to_arrays()["log_probs"], once.model.to_arrays()["log_probs"])


def test_the_order_is_the_lowest_near_the_best_and_the_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [example(text) for text in sentences(200, seed=2)]
    auto = ngram(texts[:150], texts[150:])
    best = min(auto.entropies.values())
    assert auto.entropies[auto.model.order] <= 1.005 * best
    assert all(bits > 1.005 * best for order, bits in auto.entropies.items() if order < auto.model.order)
    monkeypatch.setattr(language_model, "MAX_NGRAMS", 200)
    small = ngram(texts, order=6)
    assert small.n_ngrams <= 200 and small.thresholds[3] >= 1 and small.thresholds[:3] == (0, 0, 0)


def test_a_language_model_of_a_file_needs_a_folder(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="lm.npz is missing"):
        shutil.copytree(speech / "short/best", tmp_path / "best")
        (tmp_path / "best" / SETTINGS).write_text('{"lm_weight": 1.0}')
        anadil.load(tmp_path / "best")


def test_subwords_are_tokens_as_they_are() -> None:
    """Labels that start words and labels that go on: the n-gram knows that "ka" is followed by "sa" inside a word."""
    labels = (" ka", "ka", " sa", "sa")
    train = [Example(Utterance("1.wav", 1.0, "kasa"), one) for one in ((0, 3), (0, 3, 0, 3), (2, 1), (0, 3, 2, 1))]
    built = build_label_ngram(labels, train, [], LmSettings(order=2), Silent())
    scorer = LabelLM(built.model, labels, 1.0, 0.0)
    state, every = np.array([[scorer.begin()]]), np.arange(4)[None]
    assert scorer.factors(state, every)[0, 0].argmax() == 0
    after = scorer.next_states(state[0], np.array([0]))
    assert scorer.factors(after[None], every)[0, 0].argmax() == 3 and scorer.factors(after[None], every).max() > 0.5
    probs = np.full((3, 5), 0.01)
    probs[0, 0], probs[1, 4], probs[2, 1], probs[2, 3] = 0.96, 0.96, 0.5, 0.46
    rules = text_rules("en", TextSettings(), labels, check=False)
    lm = LanguageModel(labels, LmWeights(lm_weight=1.0), built.model)
    assert Decoder(rules, 0.02).texts([np.log(probs)]) == ["kaka"]
    assert Decoder(rules, 0.02, lm).texts([np.log(probs)]) == ["kasa"]
