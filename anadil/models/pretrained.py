"""A model of any kind that can be read: our own folder, a NeMo archive, Hugging Face's folder or id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anadil.files import recover_folder
from anadil.models.acoustic import CONFIG, WEIGHTS, LoadedModel, load_model
from anadil.models.hugging_face.read import read_hugging_face
from anadil.models.hugging_face.vocabulary import is_hub_id, is_hugging_face
from anadil.models.nemo.archive import kind_of
from anadil.models.nemo.read import read_nemo
from anadil.settings import read_yaml


@dataclass(frozen=True)
class AnyModel:
    """What was read. Without a CTC head (base models of Hugging Face) `loaded` has no labels."""

    loaded: LoadedModel
    tokenizer: str  # kind, as in the section `tokenizer` of a config
    made_from: str | None = None  # in words; None for a folder of ours
    has_head: bool = True


def read_model(path: Path, hub: bool = False, adapter: str | None = None) -> AnyModel | None:
    """The model at `path`, in evaluation mode; None if there is none of a known kind.

    `hub`: a name that is no path may be an id there; `adapter`: the language of MMS's adapter. Raises AnadilError if
    the model is damaged or not supported.
    """
    recover_folder(path)
    if kind_of(path) is not None or (path.is_file() and path.suffix in (".nemo", ".ckpt")):  # or a damaged one
        archive = read_nemo(path)
        return AnyModel(archive.loaded, "bpe" if archive.loaded.rules.subwords else "char", archive.source)
    if (path / WEIGHTS).is_file() and (path / CONFIG).is_file():
        return AnyModel(load_model(path), read_yaml(path / CONFIG)["tokenizer"].get("kind", "char"))
    if is_hugging_face(path) or (hub and is_hub_id(str(path))):
        foreign = read_hugging_face(str(path), adapter=adapter)
        return AnyModel(foreign.loaded, "char", foreign.source, foreign.has_head)
    return None
