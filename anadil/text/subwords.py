"""Subwords by SentencePiece (BPE, unigram): its pieces become labels, and a piece that begins a word starts with a space."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any, Literal

from anadil.errors import AnadilError

SPACE = "\u2581"  # SentencePiece's sign for a space


def train_subwords(texts: Iterable[str], kind: Literal["bpe", "unigram"], size: int) -> bytes:
    """A SentencePiece model of normalised texts, as bytes; the same texts give the same bytes.

    Its own normalisation is off (by default it would fold case and compatibility forms), and so are bytes for unknown
    characters: what has no label is an error here, as with letters.
    Raises AnadilError if there is too little or too varied text for `size` labels.
    """
    pieces = _library()
    lines = [text for text in texts if text]
    if not lines:
        raise AnadilError('no text to make subwords of\n  next: check the manifests\' "text"')
    model = io.BytesIO()
    try:
        pieces.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=kind,
            vocab_size=size + 1,  # the unknown piece, which is no label
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            byte_fallback=False,
            character_coverage=1.0,
            split_by_unicode_script=False,
            split_digits=False,
            max_sentence_length=100_000,
            hard_vocab_limit=kind == "bpe",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise AnadilError(_why(str(error), size)) from None
    return model.getvalue()


class Subwords:
    """A SentencePiece model read from its bytes, whose pieces are the labels of a model.

    `labels` is what they are called there, in any order: ours leave the unknown piece out, NeMo's keep it. A piece that
    has no label there (the unknown one, <s>) is of no text.
    """

    def __init__(self, model: bytes, labels: Sequence[str] | None = None) -> None:
        try:
            self._processor: Any = _library().SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise AnadilError(
                f"the tokenizer is no SentencePiece model: {error}\n  next: make it again, or copy the folder again"
            ) from error
        self._label_ids = {label: i for i, label in enumerate(self.labels if labels is None else labels)}

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """All pieces in the model's order; " ken" begins a word."""
        found = (self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size()))
        return tuple(piece.replace(SPACE, " ") for piece in found)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Pieces in the model's order, without those that are no text: the unknown one, <s>, </s>."""
        no_text = (self._processor.is_unknown, self._processor.is_control)
        return tuple(piece for i, piece in enumerate(self.pieces) if not any(is_such(i) for is_such in no_text))

    def encode(self, text: str) -> list[int]:
        """Label ids of the likeliest segmentation of a normalised text. Raises AnadilError if a part of it has no piece."""
        return self._rows(self._processor.encode(text), text)

    def sample(self, text: str, alpha: float) -> list[int]:
        """Label ids of a segmentation drawn at random: subword regularisation (Kudo 2018, arXiv:1804.10959), for BPE
        its dropout (Provilkov et al. 2020). `alpha`: smoothness for unigram, share of merges left out for BPE."""
        return self._rows(self._processor.encode(text, enable_sampling=True, alpha=alpha, nbest_size=-1), text)

    def _rows(self, ids: list[int], text: str) -> list[int]:
        if any(self._processor.is_unknown(i) or self.pieces[i] not in self._label_ids for i in ids):
            raise AnadilError(f"the subwords have no piece for a part of {text!r}")
        return [self._label_ids[self.pieces[i]] for i in ids]


def set_sampling_seed(seed: int) -> None:
    """Make what `sample` draws repeatable; SentencePiece has one generator for all."""
    _library().set_random_generator_seed(seed)


def _why(message: str, size: int) -> str:
    most = re.search(r"value <= (\d+)", message)
    least = re.search(r"smaller than required_chars. \d+ vs (\d+)", message)
    if most:
        return f"{size} subwords are too many for this text\n  next: tokenizer.size={int(most[1]) - 1} or less"
    if least:
        return (
            f"{size} subwords are too few: the text has {int(least[1]) - 1} different characters\n"
            f"  next: tokenizer.size={int(least[1])} or more, or drop rare characters (text.drop)"
        )
    return f"SentencePiece cannot make {size} subwords of this text: {message.strip()}\n  next: another tokenizer.size"


def _library() -> ModuleType:
    try:
        import sentencepiece
    except ImportError as error:
        raise AnadilError(f"subwords need SentencePiece ({error})\n  next: pip install 'anadil[train]'") from error
    module: ModuleType = sentencepiece
    return module
