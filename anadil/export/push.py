"""`anadil push`: a model or exported folder with its card to the hub of Hugging Face, with the user's own token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.decoding.language_model import LABELS, WORDS
from anadil.decoding.language_model import SETTINGS as DECODER
from anadil.errors import AnadilError, shortened
from anadil.export.layout import CARD, CONFIG, MODEL, VOCABULARY, read_front_matter
from anadil.text.tokenizer import MODEL as TOKENIZER

WEIGHTS, MODEL_CONFIG, TOKENS = "model.safetensors", "config.yaml", "tokens.txt"

KNOWN = frozenset({MODEL, CONFIG, VOCABULARY, CARD, TOKENIZER, WEIGHTS, MODEL_CONFIG, TOKENS, LABELS, WORDS, DECODER})
"""Files that Anadil writes into a folder; no other one leaves the user's machine."""

_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class Pushed:
    """What was uploaded."""

    url: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]  # files of the folder that Anadil did not write
    has_licence: bool  # whether the card's metadata names one


def push(folder: Path, repo: str, private: bool = False, message: str = "Upload with Anadil") -> Pushed:
    """Upload the files of a model folder or an exported folder to the repository `repo` (USER/NAME), made if need be.

    The token is that of `hf auth login`, or HF_TOKEN; the hub is HF_ENDPOINT, by default Hugging Face's. Raises AnadilError if
    the folder is no model, without card, or if the hub refuses.
    """
    files, left_out = files_to_push(folder)
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise AnadilError(f"{shortened(repr(repo))} is no repository\n  next: give USER/NAME, such as ayse/asr-tr")
    api, errors = _hub()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=files, commit_message=message)
    except errors as error:
        raise AnadilError(f"{repo}: {_explained(error)}") from error
    licence = read_front_matter((folder / CARD).read_text(encoding="utf-8")).get("license", "unknown")
    return Pushed(str(url), tuple(files), tuple(left_out), licence != "unknown")


def files_to_push(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files that would be uploaded, and of those that would not. Raises AnadilError if it is no model."""
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not ({MODEL} <= set(found) or {WEIGHTS, MODEL_CONFIG} <= set(found)):
        raise AnadilError(
            f"{folder} is no model folder (with {WEIGHTS} and {MODEL_CONFIG}) and no exported folder (with {MODEL})\n"
            "  next: give one of these, such as RUN/best"
        )
    if CARD not in found:
        raise AnadilError(f"{folder} has no card ({CARD})\n  next: write one, or export the model again")
    return [name for name in found if name in KNOWN], [name for name in found if name not in KNOWN]


def _hub() -> tuple[Any, tuple[type[Exception], ...]]:
    """The client, with the user's token, and what it raises."""
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise AnadilError(f"uploading needs huggingface-hub ({error})\n  next: pip install 'anadil[hf]'") from error
    token = get_token()
    if not token:
        raise AnadilError(
            "no token for the hub was found\n"
            "  next: make one that may write at https://huggingface.co/settings/tokens, then hf auth login, or set HF_TOKEN"
        )
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    return api, (HfHubHTTPError, HFValidationError, OSError, *_transport_errors())


def _transport_errors() -> Iterable[type[Exception]]:
    for name in ("httpx2", "httpx"):  # what the client is built on differs between its versions
        try:
            module = __import__(name)
        except ImportError:
            continue
        yield module.HTTPError


def _explained(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the hub refused the token (status {status})\n"
            "  next: make a token with the right to write to this repository, then hf auth login, or set HF_TOKEN"
        )
    if status is not None:
        return f"the hub answered with status {status}: {shortened(str(error), 300)}\n  next: check the name of the repository"
    return f"the hub cannot be reached: {type(error).__name__}: {shortened(str(error), 200)}\n  next: try again later"
