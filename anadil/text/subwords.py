"""Subwords by SentencePiece (BPE, unigram). Its pieces become labels; a piece that starts a word starts with a space."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any, Literal

from anadil.errors import AnadilError

_SPACE = "\u2581"  # stands for a space in SentencePiece's pieces


def train_subwords(texts: Iterable[str], kind: Literal["bpe", "unigram"], size: int) -> bytes:
    """Train a SentencePiece model on normalised texts and return its bytes, which depend on the texts alone.

    SentencePiece's own normalisation is off, because its default folds case and compatibility forms. Byte fallback is
    off too: a character without a label is an error, as with other kinds of label.
    Raises AnadilError if there is too little or too varied text for `size` labels.
    """
    sentencepiece = _library()
    lines = [text for text in texts if text]
    if not lines:
        raise AnadilError('no text to train subwords on\n  next: check "text" in the manifests')
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=kind,
            vocab_size=size + 1,  # one more for the unknown piece, which is no label
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
        raise AnadilError(_explanation(str(error), size)) from None
    return model.getvalue()


class Subwords:
    """A SentencePiece model read from its bytes, whose pieces are the labels of an acoustic model.

    `labels`: the acoustic model's labels, in any order. Ours omit the unknown piece, NeMo's include it. Pieces without
    a label (the unknown piece, <s>) occur in no text.
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
        """All pieces in the model's order; " ken" starts a word."""
        pieces = (self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size()))
        return tuple(piece.replace(_SPACE, " ") for piece in pieces)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The pieces in the model's order, without the unknown piece and control pieces such as <s> and </s>."""
        is_unknown, is_control = self._processor.is_unknown, self._processor.is_control
        return tuple(piece for i, piece in enumerate(self.pieces) if not is_unknown(i) and not is_control(i))

    def encode(self, text: str) -> list[int]:
        """Label ids of the most likely segmentation of a normalised text. Raises AnadilError if a part has no piece."""
        return self._to_label_ids(self._processor.encode(text), text)

    def sample(self, text: str, alpha: float) -> list[int]:
        """Label ids of a random segmentation: subword regularisation (Kudo 2018, arXiv:1804.10959).

        For BPE this is BPE-dropout (Provilkov et al. 2020). `alpha`: smoothness for unigram, share of merges that are
        skipped for BPE.
        """
        return self._to_label_ids(self._processor.encode(text, enable_sampling=True, alpha=alpha, nbest_size=-1), text)

    def _to_label_ids(self, ids: list[int], text: str) -> list[int]:
        if any(self._processor.is_unknown(i) or self.pieces[i] not in self._label_ids for i in ids):
            raise AnadilError(f"the subwords have no piece for a part of {text!r}")
        return [self._label_ids[self.pieces[i]] for i in ids]


def sentencepieces(model: bytes, where: str) -> list[str]:
    """The pieces of a SentencePiece model in order: field 1 of field 1 of its protobuf message.

    It needs no library, so that an exported folder can be checked without one. Raises AnadilError if it is no
    SentencePiece model. `where`: the folder or archive, for the message.
    """
    try:
        pieces = [dict(_fields(content))[1] for number, content in _fields(model) if number == 1]
        return [piece.decode("utf-8") for piece in pieces]
    except (IndexError, KeyError, ValueError) as error:
        raise AnadilError(f"{where}: tokenizer.model is no SentencePiece model\n  next: copy it again") from error


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each length-delimited field of a protobuf message; other fields are skipped."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire_type = key & 7
        if wire_type == 0:
            _, position = _varint(message, position)
            continue
        size, position = _varint(message, position) if wire_type == 2 else ({1: 8, 5: 4}[wire_type], position)
        if position + size > len(message):
            raise ValueError("truncated message")
        if wire_type == 2:
            yield key >> 3, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and the position after it."""
    value, shift = 0, 0
    while True:
        value |= (message[position] & 127) << shift
        position, shift = position + 1, shift + 7
        if not message[position - 1] & 128:
            return value, position


def set_sampling_seed(seed: int) -> None:
    """Make the draws of `sample` repeatable. SentencePiece has one random generator for all models."""
    _library().set_random_generator_seed(seed)


def _explanation(message: str, size: int) -> str:
    too_many = re.search(r"value <= (\d+)", message)
    too_few = re.search(r"smaller than required_chars. \d+ vs (\d+)", message)
    if too_many:
        return f"{size} subwords are too many for this text\n  next: tokenizer.size={int(too_many[1]) - 1} or less"
    if too_few:
        return (
            f"{size} subwords are too few: the text has {int(too_few[1]) - 1} different characters\n"
            f"  next: tokenizer.size={int(too_few[1])} or more, or drop rare characters (text.drop)"
        )
    return f"SentencePiece cannot make {size} subwords from this text: {message.strip()}\n  next: set another tokenizer.size"


def _library() -> ModuleType:
    try:
        import sentencepiece
    except ImportError as error:
        raise AnadilError(f"subwords need SentencePiece ({error})\n  next: pip install 'anadil[train]'") from error
    module: ModuleType = sentencepiece
    return module
