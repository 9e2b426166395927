"""OmegaConf's objects in a checkpoint's pickle, read without OmegaConf: classes that keep their state and do nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
