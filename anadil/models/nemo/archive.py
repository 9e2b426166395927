"""Read NeMo's archives (`.nemo`, a tar) and Lightning checkpoints (`.ckpt`), which may come from untrusted sources.

Nothing is unpacked to disk and no code in them runs: known members are read, up to size limits, and tensors are loaded
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

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
_MAX_MEMBERS = 10_000
_MAX_ARTIFACT_BYTES = 64 * 2**20  # the largest tokenizers have 10 MB
_MAX_WEIGHTS_BYTES = 64 * 2**30
_MAX_EXPANSION = 50
"""Largest factor by which a gzip may grow. Weights hardly compress (1.1 times)."""

_DAMAGED = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, AssertionError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError),
)
"""The exceptions that readers of tar, zip, gzip and pickle raise for damaged files."""

ArchiveKind = Literal["nemo", "ckpt"]


@dataclass(frozen=True)
class Archive:
    """The contents of a `.nemo` or `.ckpt`: the config, tensors by name, and small files by their name."""

    path: Path
    kind: ArchiveKind
    config: dict[str, Any]  # as written, interpolations included
    weights: dict[str, Tensor]
    artifacts: dict[str, bytes]


def archive_kind(path: Path) -> ArchiveKind | None:
    """The kind of a file, from its contents: a tar with NeMo's config, a PyTorch checkpoint, or None for neither."""
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
    except (*_DAMAGED, AnadilError):
        return None


def read_archive(path: Path, config_file: Path | None = None) -> Archive:
    """Read a `.nemo` or `.ckpt`; `config_file` gives the config of a checkpoint that does not hold it.

    Raises AnadilError if the file is no such archive, is damaged, or holds anything unsafe.
    """
    if archive_kind(path) == "ckpt":
        return _read_checkpoint(path, config_file)
    try:
        with _open_tar(path) as tar:
            members = _safe_members(tar, path)
            config_member, weights_member = (_find(members, name, path) for name in (CONFIG, WEIGHTS))
            config = parse_yaml(_read(tar, config_member, _MAX_ARTIFACT_BYTES, path), f"{path}:{CONFIG}")
            weights = _load_tensors(_stream(tar, weights_member, path), f"{path}:{WEIGHTS}")
            artifacts = {
                PurePosixPath(member.name).name: _read(tar, member, _MAX_ARTIFACT_BYTES, path)
                for member in members.values()
                if PurePosixPath(member.name).suffix in (".model", ".txt", ".vocab")
            }
    except _DAMAGED as error:
        raise AnadilError(
            f"{path}: the file is damaged, or is no NeMo archive: {error}\n  next: copy it again"
        ) from error
    return Archive(path, "nemo", config.get("model", config), _state(weights, path), artifacts)


def _read_checkpoint(path: Path, config_file: Path | None) -> Archive:
    """A Lightning checkpoint: `state_dict` and, under `hyper_parameters`, the model's config."""
    with open(path, "rb") as file:
        content = _load_tensors(file, str(path))
    if not isinstance(content, Mapping) or "state_dict" not in content:
        raise AnadilError(f"{path} is no Lightning checkpoint: it has no state_dict")
    config = read_yaml(config_file) if config_file is not None else _plain_config(content.get("hyper_parameters") or {})
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
    """Open the archive: NeMo has written a plain tar since 1.7, and a gzipped one before."""
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with tarfile.open(fileobj=_expand(raw, path) if zipped else raw, mode="r:") as tar:
            yield tar


def _expand(raw: IO[bytes], path: Path) -> IO[bytes]:
    """The contents of a gzip, in memory. Raises AnadilError if they are too large."""
    limit = min(_MAX_WEIGHTS_BYTES, _MAX_EXPANSION * path.stat().st_size + _MAX_ARTIFACT_BYTES)
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=raw) as unzipped:
        while block := unzipped.read(2**22):
            if content.tell() + len(block) > limit:
                raise AnadilError(f"{path}: the gzip grows to more than {_MAX_EXPANSION} times its size: refused")
            content.write(block)
    content.seek(0)
    return content


def _safe_members(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Regular files by their path in the archive.

    Raises AnadilError for links and devices, paths outside the archive, repeated paths, and too many members.
    """
    members: dict[str, tarfile.TarInfo] = {}
    for n, member in enumerate(tar):
        parts = PurePosixPath(member.name).parts
        if n >= _MAX_MEMBERS:
            raise AnadilError(f"{path}: more than {_MAX_MEMBERS:,} files in the archive: refused")
        if member.name.startswith("/") or ".." in parts or "\\" in member.name or (parts and ":" in parts[0]):
            raise AnadilError(f"{path}: the archive holds {member.name!r}, a path outside the archive: refused")
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
    """The member of this name; in old archives it is in a folder, or its name begins with a hash."""
    if name in members:
        return members[name]
    matches = [member for member_path, member in members.items() if member_path.endswith(name)]
    if len(matches) != 1:
        listed = ", ".join(sorted(members)[:10]) or "nothing"
        raise AnadilError(
            f"{path} is no NeMo archive: it has no {name} (it holds: {listed}; sharded weights are not supported)"
        )
    return matches[0]


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, path: Path) -> bytes:
    if member.size > limit:
        raise AnadilError(f"{path}: {member.name} is {member.size:,} bytes, allowed are {limit:,}: refused")
    return _stream(tar, member, path).read()


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> IO[bytes]:
    if member.size > _MAX_WEIGHTS_BYTES:
        raise AnadilError(
            f"{path}: {member.name} is {member.size:,} bytes, allowed are {_MAX_WEIGHTS_BYTES:,}: refused"
        )
    file = tar.extractfile(member)
    assert file is not None, "a regular file"
    return file


def _load_tensors(file: IO[bytes], where: str) -> Any:
    """As torch.load, but no code in the pickle can run, and compressed content, which could explode, is refused."""
    try:
        zipped = zipfile.is_zipfile(file)
        if zipped:
            with zipfile.ZipFile(file) as inside:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in inside.infolist()):
                    raise AnadilError(f"{where}: compressed tensors, which PyTorch never writes: refused")
        file.seek(0)
        class_names = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipped else []
        file.seek(0)
        with torch.serialization.safe_globals(_stand_ins(class_names)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        unsafe = re.search(r"(?:GLOBAL|global|function) (\S+)", str(error))
        if not isinstance(error, pickle.UnpicklingError) or unsafe is None:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise AnadilError(f"{where}: the weights are damaged: {why}\n  next: copy the file again") from error
        raise AnadilError(
            f"{where}: refused, because it holds more than tensors and could run code when it is loaded ({unsafe[1]})\n"
            "  next: get the model from someone you trust; NeMo itself writes only tensors"
        ) from error


def _state(weights: Any, path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises AnadilError if anything else is among them."""
    if not isinstance(weights, Mapping) or not weights:
        raise AnadilError(f"{path}: the weights are not a table of tensors")
    if isinstance(weights.get("state_dict"), Mapping):
        weights = weights["state_dict"]
    others = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise AnadilError(f"{path}: these weights are not tensors: {', '.join(others[:5])}")
    return {str(name): value for name, value in weights.items()}


# A checkpoint's pickle holds its config as objects of OmegaConf. They are read without OmegaConf, as instances of
# stand-in classes that store the state and do nothing else.


class _StandIn:
    """Stores the arguments and the state that a pickle gives to an object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"args": (state,)})


class _StandInDict(dict[Any, Any]):
    """A dict that ignores its arguments, such as the factory of a defaultdict."""

    def __init__(self, *args: Any) -> None:
        super().__init__()


_PACKAGES = ("omegaconf.", "nemo.", "lightning.", "lightning_fabric.", "pytorch_lightning.", "typing.", "pathlib.")
"""Packages of the classes in a NeMo checkpoint's config."""

_TYPES = ("dict", "list", "tuple", "int", "long", "float", "bool", "str", "unicode", "bytes")
"""Built-in classes that OmegaConf names as the types of its values."""


def _stand_ins(names: Iterable[str]) -> list[Any]:
    """Stand-ins for PyTorch's list of safe classes: for those of `names`, a pickle's classes, that occur in configs.

    A stand-in can only store state, whatever the real class does, so `weights_only` stays safe.
    """
    allowed: list[Any] = [(_StandInDict, "collections.defaultdict")]
    allowed += [
        (type(name, (_StandIn,), {}), f"{module}.{name}") for module in ("builtins", "__builtin__") for name in _TYPES
    ]
    return allowed + [(type("StandIn", (_StandIn,), {}), name) for name in names if name.startswith(_PACKAGES)]


def _plain_config(value: Any) -> Any:
    """A config of stand-ins as dicts and lists; interpolations stay as their text."""
    if isinstance(value, _StandIn):
        state = vars(value)
        if "_content" in state or "_val" in state:
            return _plain_config(state["_content"] if "_content" in state else state["_val"])
        return state["args"][0] if state.get("args") else None  # a path, or the name of an enumeration's member
    if isinstance(value, Mapping):
        return {str(_plain_config(key)): _plain_config(item) for key, item in value.items()}
    return [_plain_config(item) for item in value] if isinstance(value, list | tuple) else value
