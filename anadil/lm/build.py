"""`anadil lm build`: text to an ARPA file, with a report of what was read, left out, and how well it predicts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anadil.errors import AnadilError
from anadil.lm.arpa import write_arpa
from anadil.lm.counts import MAX_ORDER, SPECIAL, Corpus, Counts, Progress, count_ngrams, encode
from anadil.lm.disk_sort import Array, Block, Store
from anadil.lm.estimate import FALLBACK, Discounts, Estimate, Pruning, check_thresholds, estimate
from anadil.lm.held_out import HeldOut, choose_order, highest_order, model_for, score_text
from anadil.lm.texts import STDIN, Tokenization

MEMORY = 2 << 30

_LONG_WORD = {"Han": 6, "Hiragana": 6, "Katakana": 6, "Thai": 14, "Lao": 14, "Khmer": 14, "Myanmar": 14, "Tibetan": 14}
"""Scripts without spaces between words, and the mean length of a word in characters above which a text was not cut into
words: cut ones of Chinese and Japanese have some 2 characters, of Thai 5 to 7, and their sentences 15 and more."""


@dataclass(frozen=True)
class Built:
    """A language model that was written, and what to tell about it."""

    order: int
    n_sentences: int
    n_tokens: int  # without the ends of sentences
    n_words: int  # different tokens in the text
    n_ngrams: tuple[int, ...]  # by order, after pruning
    discounts: tuple[Discounts, ...]
    warnings: tuple[str, ...]
    entropies: dict[int, float]  # bits per token of the held-out text, by order; empty if the order was given
    held_out: HeldOut | None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready data."""
        found: dict[str, Any] = {
            "order": self.order,
            "sentences": self.n_sentences,
            "tokens": self.n_tokens,
            "different_tokens": self.n_words,
            "ngrams": list(self.n_ngrams),
            "discounts": [list(one.amounts) for one in self.discounts],
            "warnings": list(self.warnings),
        }
        if self.entropies:
            found["bits_per_token_by_order"] = {str(order): bits for order, bits in self.entropies.items()}
        if self.held_out:
            held_out = self.held_out
            found["held_out"] = {
                "sentences": held_out.n_sentences,
                "tokens": held_out.n_tokens,
                "oov": held_out.n_unknown,
                "oov_rate": held_out.unknown_share,
                "perplexity_with_oov": held_out.perplexity,
                "perplexity_without_oov": held_out.known_perplexity,
                "bits_per_token": held_out.entropy,
                "worst": [[cost.word, cost.count, cost.bits, cost.is_known] for cost in held_out.costs[:10]],
            }
        return found


def build_lm(
    sources: Sequence[str],
    out: Path,
    tokenization: Tokenization,
    order: int | None,
    prune: Sequence[int] = (),
    vocabulary: int | None = None,
    words: Iterable[str] | None = None,
    valid: Sequence[str] = (),
    memory: int = MEMORY,
    temp: Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> Built:
    """Estimate a model from text sources (`anadil.lm.texts.read_lines`) and write it as an ARPA file.

    `order`: None chooses the one that predicts the `valid` sources best. `prune`: thresholds by order. `vocabulary`: keep
    the most frequent words only. `words`: keep these words only. `memory`: bytes, above which counts are sorted in
    temporary files in the folder `temp`.
    Raises AnadilError if there is no text, if half of it or more cannot be used, and for options that contradict the text.
    """
    if order is None and not valid:
        raise AnadilError("--order auto needs text to choose by\n  next: add --valid FILE, or give an order: --order 3")
    if [*sources, *valid].count(STDIN) > 1:
        raise AnadilError(
            "standard input (-) is given more than once, but can be read once\n  next: name a file instead"
        )
    check_thresholds(prune, order or MAX_ORDER)
    warnings: list[str] = []
    held_out = _held_out(valid, tokenization, warnings)
    with Store(memory, temp) as store:
        corpus = encode(tokenization.sentences(sources, on_progress), store, tokenization.complaint)
        warnings += filter(None, (tokenization.complaint(), _uncut(corpus) if tokenization.unit == "word" else ""))
        limit = highest_order(corpus.longest)
        if order is not None and order > limit:
            tokens = "token" if corpus.longest == 1 else "tokens"
            warnings.append(
                f"order {order} is higher than the text supports: its longest sentence has {corpus.longest:,} {tokens}; "
                f"the model has order {limit}"
            )
        counts = count_ngrams(corpus, min(order or MAX_ORDER, limit), store, on_progress)
        corpus.token_ids.free()
        allowed = _allowed(counts, vocabulary, words, warnings)
        chosen, entropies = counts.order, dict[int, float]()
        if order is None:
            chosen, entropies = choose_order(counts, held_out, store, prune, allowed, on_progress)
        pruning = Pruning(check_thresholds(prune[:chosen], chosen), allowed)
        found = estimate(counts, store, chosen, pruning, on_progress)
        warnings += _fallbacks(found.discounts)
        write_estimate(out, found, on_progress)
        return Built(
            chosen,
            counts.n_sentences,
            counts.n_tokens,
            len(counts.words) - len(SPECIAL),
            tuple(found.n_ngrams),
            tuple(found.discounts),
            tuple(warnings),
            entropies,
            score_text(model_for(found, {one for text in held_out for one in text.split()}), held_out)
            if valid
            else None,
        )


def write_estimate(out: Path, found: Estimate, on_progress: Progress = lambda *_: None) -> None:
    """Write an estimated model as an ARPA file, gzipped if the name ends with ".gz"."""
    done, total = 0, sum(found.n_ngrams)

    def blocks(k: int) -> Iterator[Block]:
        nonlocal done
        for block in found.blocks(k):
            yield block
            done += len(block[0])
            on_progress("writing", done, total)

    sections = [partial(blocks, k) for k in range(1, found.order + 1)]
    write_arpa(out, found.counts.words, found.n_ngrams, sections)


def _held_out(sources: Sequence[str], tokenization: Tokenization, warnings: list[str]) -> list[str]:
    """The sentences of the held-out sources, through the same rules as the text."""
    if not sources:
        return []
    own = Tokenization(tokenization.unit, tokenization.rules)
    sentences = list(own.sentences(sources))
    complaint = own.complaint("the held-out text")
    if complaint:
        warnings.append(complaint)
    if not sentences:
        raise AnadilError("there is no held-out text: every line is blank\n  next: check --valid")
    return sentences


def _allowed(counts: Counts, vocabulary: int | None, words: Iterable[str] | None, warnings: list[str]) -> Array | None:
    """Which words stay, by id, or None for all: the `vocabulary` most frequent ones of `words`."""
    if vocabulary is None and words is None:
        return None
    allowed = np.ones(len(counts.words), bool)
    if words is not None:
        wanted = set(words)
        allowed[:] = [word in wanted for word in counts.words]
        n_found = int(np.count_nonzero(allowed))
        if not n_found:
            raise AnadilError("none of the words of --words is in the text\n  next: check the file and --unit")
        if n_found < len(wanted):
            warnings.append(f"{len(wanted) - n_found:,} of {len(wanted):,} words of --words are not in the text")
    allowed[: len(SPECIAL)] = True
    if vocabulary is not None:
        true = np.where(allowed, counts.unigrams[2], 0)
        true[: len(SPECIAL)] = 0
        rare = np.argsort(-true, kind="stable")[vocabulary:]  # of words that are equally frequent, the first seen stays
        allowed[rare[rare >= len(SPECIAL)]] = False
    return allowed


def _fallbacks(discounts: Sequence[Discounts]) -> list[str]:
    problems = [one.problem for one in discounts if one.problem]
    amounts = ", ".join(f"{one:g}" for one in FALLBACK)
    return (
        [f"too little text to compute all discounts, so {amounts} replace them where {'; '.join(problems)}"]
        if problems
        else []
    )


def _uncut(corpus: Corpus) -> str:
    """A warning if the words are in a script without spaces and look like whole sentences; else empty."""
    import regex

    sample = corpus.words[len(SPECIAL) : len(SPECIAL) + 2000]
    text = "".join(sample)
    for script, longest in _LONG_WORD.items():
        found = [word for word in sample if regex.search(rf"\p{{Script={script}}}", word)]
        n_letters = len(regex.findall(rf"\p{{Script={script}}}", text))
        if 2 * n_letters < len(text) or not found:
            continue
        mean = statistics.fmean(map(len, found))
        if mean > longest or corpus.n_tokens == corpus.n_sentences:
            return (
                f"the text seems not to be cut into words: it is in the script {script}, which has no spaces between words, "
                f"and what is between its spaces has {mean:.0f} characters on average\n"
                "  next: --unit char, or cut it into words first"
            )
    return ""
