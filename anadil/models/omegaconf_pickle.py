"""OmegaConf's objects in a checkpoint's pickle, read without OmegaConf: classes that keep their state and do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


_NODES = ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "PathNode", "BytesNode", "EnumNode")

STAND_INS: dict[str, type[StandIn] | type[StandInDict]] = {
    "collections.defaultdict": StandInDict,
} | {
    name: type(name.rpartition(".")[2], (StandIn,), {})
    for name in (
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.base.Metadata",
        "omegaconf.base.ContainerMetadata",
        *(f"omegaconf.nodes.{node}" for node in _NODES),
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.WindowsPath",
        "typing.Any",
        *(f"{module}.{name}" for module in ("__builtin__", "builtins") for name in ("dict", "list", "int", "long")),
        *(f"{module}.{name}" for module in ("__builtin__", "builtins") for name in ("str", "float", "bool", "unicode")),
    )
}
"""By the name in the pickle. None of these can do more than hold state, so that `weights_only` stays what it is."""


def plain(value: Any) -> Any:
    """Configs of any class to dict and list; interpolations stay as their text."""
    if isinstance(value, StandIn):
        state = vars(value)
        return plain(state["_content"] if "_content" in state else state.get("_val"))
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
