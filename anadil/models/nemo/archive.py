"""NeMo's archives (`.nemo`, a tar) and Lightning checkpoints (`.ckpt`), read as what they are: files of strangers.

Nothing is unpacked to disk and no code in them runs: known members are read, with limits, and tensors are loaded
with `weights_only=True`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import torch
from torch import Tensor

from anadil.errors import AnadilError
from anadil.settings import parse_yaml, read_yaml

# OmegaConf's objects in a checkpoint's pickle, read without OmegaConf: classes that keep their state and do nothing.


class StandIn:
    """Holds what the pickle says of an object; whatever it is called with is kept, never used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"args": (state,)})


class StandInDict(dict[Any, Any]):
    """A dict that a pickle makes with arguments (the factory of a defaultdict), which are dropped."""

    def __init__(self, *args: Any) -> None:
        super().__init__()


PACKAGES = ("omegaconf.", "nemo.", "lightning.", "lightning_fabric.", "pytorch_lightning.", "typing.", "pathlib.")
"""Of the classes that a NeMo checkpoint's config is made of."""

TYPES = ("dict", "list", "tuple", "int", "long", "float", "bool", "str", "unicode", "bytes")
"""Built-in classes that OmegaConf names as the types of its values."""


def stand_ins(names: Iterable[str]) -> list[Any]:
    """For PyTorch's list of safe names: of those that a pickle asks for, the ones that configs are made of.

    None of these can do more than hold state, whatever the real class does: `weights_only` stays what it is.
    """
    allowed: list[Any] = [(StandInDict, "collections.defaultdict")]
    allowed += [
        (type(name, (StandIn,), {}), f"{module}.{name}") for module in ("builtins", "__builtin__") for name in TYPES
    ]
    return allowed + [(type("StandIn", (StandIn,), {}), name) for name in names if name.startswith(PACKAGES)]


def plain(value: Any) -> Any:
    """Configs of any class to dict and list; interpolations stay as their text."""
    if isinstance(value, StandIn):
        state = vars(value)
        if "_content" in state or "_val" in state:
            return plain(state["_content"] if "_content" in state else state["_val"])
        return state["args"][0] if state.get("args") else None  # a path, a name of an enumeration
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
MAX_MEMBERS = 10_000
MAX_ARTIFACT_BYTES = 64 * 2**20  # the largest tokenizers take 10
MAX_WEIGHTS_BYTES = 64 * 2**30
MAX_EXPANSION = 50
"""Weights hardly compress (1.1 times); a gzip that grows more than this is no model."""

DAMAGED = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, AssertionError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError),
)
"""What the readers of archives raise when a file is not what it says it is."""

ArchiveKind = Literal["nemo", "ckpt"]


@dataclass(frozen=True)
class Archive:
    """What a `.nemo` or `.ckpt` holds: config as written, tensors by name, small files by their name in the archive."""

    path: Path
    kind: ArchiveKind
    config: dict[str, Any]
    weights: dict[str, Tensor]
    artifacts: dict[str, bytes]


def kind_of(path: Path) -> ArchiveKind | None:
    """What a file is, by its contents: a tar with NeMo's config, a PyTorch checkpoint, or neither."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04":
            with zipfile.ZipFile(path) as inside:
                return "ckpt" if any(name.endswith("data.pkl") for name in inside.namelist()) else None
        with _open_tar(path) as tar:
            return "nemo" if any(member.name.endswith(CONFIG) for member in tar) else None
    except (*DAMAGED, AnadilError):
        return None


def read_archive(path: Path, config_file: Path | None = None) -> Archive:
    """Read a `.nemo` or `.ckpt`; `config_file` is for a checkpoint that does not hold its config.

    Raises AnadilError if it is no such archive, is damaged, or holds what no model needs.
    """
    kind = kind_of(path)
    if kind == "ckpt":
        return _read_checkpoint(path, config_file)
    try:
        with _open_tar(path) as tar:
            members = _safe_members(tar, path)
            config_member, weights_member = (_find(members, name, path) for name in (CONFIG, WEIGHTS))
            config = parse_yaml(_read(tar, config_member, MAX_ARTIFACT_BYTES, path), f"{path}:{CONFIG}")
            weights = _load_tensors(_stream(tar, weights_member, path), f"{path}:{WEIGHTS}")
            artifacts = {
                PurePosixPath(member.name).name: _read(tar, member, MAX_ARTIFACT_BYTES, path)
                for member in members.values()
                if PurePosixPath(member.name).suffix in (".model", ".txt", ".vocab")
            }
    except DAMAGED as error:
        raise AnadilError(f"{path}: the archive is damaged or none: {error}\n  next: copy it again") from error
    return Archive(path, "nemo", config.get("model", config), _state(weights, path), artifacts)


def _read_checkpoint(path: Path, config_file: Path | None) -> Archive:
    """Lightning's: `state_dict`, and the model's config under `hyper_parameters`."""
    with open(path, "rb") as file:
        content = _load_tensors(file, str(path))
    if not isinstance(content, Mapping) or "state_dict" not in content:
        raise AnadilError(f"{path}: no Lightning checkpoint: there is no state_dict in it")
    config = read_yaml(config_file) if config_file is not None else plain(content.get("hyper_parameters") or {})
    config = config.get("cfg", config) if isinstance(config, dict) else {}
    config = config.get("model", config) if isinstance(config, dict) else {}
    if "encoder" not in config:
        raise AnadilError(
            f"{path}: the checkpoint does not hold the model's config (hyper_parameters)\n"
            "  next: give the run's YAML as well: anadil convert RUN.ckpt --config hparams.yaml --out DIR"
        )
    return Archive(path, "ckpt", config, _state(content["state_dict"], path), {})


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """NeMo wrote gzip before 1.7, plain tar since."""
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file: IO[bytes] = raw
        if zipped:
            file = _expand(raw, path)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            yield tar


def _expand(raw: IO[bytes], path: Path) -> IO[bytes]:
    limit = min(MAX_WEIGHTS_BYTES, MAX_EXPANSION * path.stat().st_size + MAX_ARTIFACT_BYTES)
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=raw) as unzipped:
        while block := unzipped.read(2**22):
            if content.tell() + len(block) > limit:
                raise AnadilError(f"{path}: the gzip grows to more than {MAX_EXPANSION} times its size: refused")
            content.write(block)
    content.seek(0)
    return content


def _safe_members(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Regular files by their path in the archive. Raises AnadilError for links, paths that lead out, and too many."""
    members: dict[str, tarfile.TarInfo] = {}
    for n, member in enumerate(tar):
        parts = PurePosixPath(member.name).parts
        if n >= MAX_MEMBERS:
            raise AnadilError(f"{path}: more than {MAX_MEMBERS:,} files in the archive: refused")
        if member.name.startswith("/") or ".." in parts or "\\" in member.name or (parts and ":" in parts[0]):
            raise AnadilError(f"{path}: the archive holds {member.name!r}, a path that leads out of it: refused")
        if member.isdir():
            continue
        if not member.isreg():
            raise AnadilError(f"{path}: the archive holds {member.name!r}, a link or device: refused")
        name = "/".join(parts)
        if name in members:
            raise AnadilError(f"{path}: the archive holds {name!r} twice: refused")
        members[name] = member
    return members


def _find(members: Mapping[str, tarfile.TarInfo], name: str, path: Path) -> tarfile.TarInfo:
    """By its name; old archives put it in a folder or a hash before it."""
    if name in members:
        return members[name]
    found = [member for inside, member in members.items() if inside.endswith(name)]
    if len(found) != 1:
        listed = ", ".join(sorted(members)[:10]) or "nothing"
        raise AnadilError(
            f"{path} is no NeMo archive: no {name} in it (it holds: {listed}; sharded weights are not read)"
        )
    return found[0]


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, path: Path) -> bytes:
    if member.size > limit:
        raise AnadilError(f"{path}: {member.name} is {member.size:,} bytes, allowed are {limit:,}: refused")
    return _stream(tar, member, path).read()


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> IO[bytes]:
    if member.size > MAX_WEIGHTS_BYTES:
        raise AnadilError(f"{path}: {member.name} is {member.size:,} bytes, allowed are {MAX_WEIGHTS_BYTES:,}: refused")
    file = tar.extractfile(member)
    assert file is not None, "a regular file"
    return file


def _load_tensors(file: IO[bytes], where: str) -> Any:
    """torch.load without pickle's power to run code, and without compression that could explode."""
    try:
        zipped = zipfile.is_zipfile(file)
        if zipped:
            with zipfile.ZipFile(file) as inside:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in inside.infolist()):
                    raise AnadilError(f"{where}: compressed tensors, which PyTorch never writes: refused")
        file.seek(0)
        asked_for = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipped else []
        file.seek(0)
        with torch.serialization.safe_globals(stand_ins(asked_for)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        asked = re.search(r"(?:GLOBAL|global|function) (\S+)", str(error))
        if not isinstance(error, pickle.UnpicklingError) or asked is None:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise AnadilError(f"{where}: the weights are damaged: {why}\n  next: copy the file again") from error
        raise AnadilError(
            f"{where}: refused, because it holds more than tensors and could run code when it is loaded ({asked[1]})\n"
            "  next: get the model from someone you trust; NeMo itself writes tensors alone"
        ) from error


def _state(weights: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(weights, Mapping) or not weights:
        raise AnadilError(f"{path}: the weights are no table of tensors")
    if isinstance(weights.get("state_dict"), Mapping):
        weights = weights["state_dict"]
    strange = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
    if strange:
        raise AnadilError(f"{path}: not tensors among the weights: {', '.join(strange[:5])}")
    return {str(name): value for name, value in weights.items()}
