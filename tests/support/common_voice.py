"""Tables as Common Voice publishes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

COLUMNS = {  # of releases, as they were published
    "4": "client_id path sentence up_votes down_votes age gender accent",
    "6.1": "client_id path sentence up_votes down_votes age gender accent locale segment",
    "17": "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment",
}

ROW = {
    "client_id": "abc",
    "path": "common_voice_tr_1.mp3",
    "sentence": "Merhaba.",
    "sentence_id": "s1",
    "up_votes": "2",
    "down_votes": "0",
    "age": "twenties",
    "locale": "tr",
}


def write_tsv(path: Path, columns: str, rows: Sequence[dict[str, str]], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns.split(" ")
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    path.write_text("".join("\t".join(line) + end for line in lines), encoding="utf-8", newline="")
    return path
