"""Read a model of any supported kind: a model folder, a NeMo archive, a `.hama` file, or a model of Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anadil.files import recover_folder
from anadil.models.acoustic import CONFIG, WEIGHTS, LoadedModel, load_model
from anadil.models.hama import HAMA, installed_model, is_hama, read_hama
from anadil.models.hugging_face.read import read_hugging_face
from anadil.models.hugging_face.vocabulary import is_hub_id, is_hugging_face
from anadil.models.nemo.archive import archive_kind
from anadil.models.nemo.read import read_nemo
from anadil.settings import read_yaml


@dataclass(frozen=True)
class PretrainedModel:
    """A model of any kind. If it has no CTC head (base models of Hugging Face), `loaded` has no labels."""

    loaded: LoadedModel
    tokenizer: str  # its kind, as in the section `tokenizer` of a config
    source: str | None = None  # description of the archive or foreign model; None for a model folder
    has_head: bool = True


def read_model(path: Path, hub: bool = False, adapter: str | None = None) -> PretrainedModel | None:
    """The model at `path`, in evaluation mode, or None if `path` is of no known kind.

    `hub`: a name that is no path may be the id of a model on the hub, or `hama`, the model in that package. `adapter`: the
    language of MMS's adapter. Raises AnadilError if the model is damaged or not supported.
    """
    recover_folder(path)
    # a damaged archive has no kind: reading it gives the error
    if archive_kind(path) is not None or (path.is_file() and path.suffix in (".nemo", ".ckpt")):
        nemo = read_nemo(path)
        return PretrainedModel(nemo.loaded, "bpe" if nemo.loaded.rules.subwords else "char", nemo.source)
    if is_hama(path) or (hub and str(path) == HAMA and not path.exists()):
        path = path if path.exists() else installed_model()
        return PretrainedModel(read_hama(path), "char", f"{path.name} of hama")
    if (path / WEIGHTS).is_file() and (path / CONFIG).is_file():
        return PretrainedModel(load_model(path), read_yaml(path / CONFIG)["tokenizer"].get("kind", "char"))
    if is_hugging_face(path) or (hub and is_hub_id(str(path))):
        hugging_face = read_hugging_face(str(path), adapter=adapter)
        return PretrainedModel(hugging_face.loaded, "char", hugging_face.source, hugging_face.has_head)
    return None
