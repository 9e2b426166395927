"""The sections of a NeMo config, option by option: each is read, known to change nothing, or named as a problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from anadil.errors import AnadilError
from anadil.settings import parse

Section = TypeVar("Section", bound=BaseModel)


@dataclass
class Findings:
    """What a conversion could not take over: problems stop it, what is left out is told."""

    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def stop(self, where: str) -> None:
        """Raise AnadilError with every problem, if there is one."""
        if self.problems:
            listed = "\n".join(f"  {problem}" for problem in self.problems)
            raise AnadilError(
                f"{where}: not supported by Anadil:\n{listed}\n  next: convert a model without these options"
            )


class Options:
    """One section; `close` names every option that nobody asked for."""

    def __init__(self, section: object, name: str, findings: Findings) -> None:
        self.name, self.findings = name, findings
        self.section: dict[str, Any] = section if isinstance(section, dict) else {}
        self.seen: set[str] = {"_target_"}
        self.foreign = False  # of a class that we do not have: its options would only be noise
        if not isinstance(section, dict):
            findings.problems.append(f"{name}: expected a section, found {section!r}")

    def get(self, key: str, default: Any = None) -> Any:
        """The option's value, or `default` where it is absent."""
        self.seen.add(key)
        value = self.section.get(key, default)
        if isinstance(value, str) and ("${" in value or value == "???"):
            self.problem(key, value, "it cannot be resolved")
            return default
        return value

    def ignore(self, *keys: str) -> None:
        """Options that change no result, or that later NeMo ignores too."""
        self.seen.update(keys)

    def only(self, key: str, *allowed: Any) -> None:
        """A problem unless the option has one of these values; the first is NeMo's default."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            self.problem(key, value, f"supported is {' or '.join(map(_show, allowed))}")

    def one(self, key: str, default: Any = None) -> Any:
        """A number that NeMo writes as a list of one."""
        value = self.get(key, default)
        if isinstance(value, list):
            if len(value) == 1:
                return value[0]
            self.problem(key, value, "supported is one value")
            return default
        return value

    def problem(self, key: str, value: Any, why: str) -> None:
        self.findings.problems.append(f"{self.name}.{key}: {_show(value)} ({why})")

    def target(self, *names: str) -> str:
        """The last part of the class's name, one of `names`."""
        full = str(self.section.get("_target_", ""))
        name = full.rpartition(".")[2]
        if name not in names:
            self.foreign = True
            self.problem("_target_", full, f"supported is {' or '.join(names)}")
        return name

    def close(self) -> None:
        for key, value in self.section.items():
            if key not in self.seen and value is not None and not self.foreign:
                self.problem(key, value, "unknown option")

    def parse(self, kind: type[Section], data: dict[str, Any]) -> Section | None:
        """`data` as settings; its mistakes become problems."""
        if self.foreign:
            return None
        try:
            return parse(kind, data, self.name)
        except AnadilError as error:
            self.findings.problems += [line for line in str(error).split("\n") if not line.startswith("  next:")]
            return None


def modernise(value: Any) -> Any:
    """NeMo before 1.0 wrote `cls` and `params` where it writes `_target_` and the options now."""
    if isinstance(value, list):
        return [modernise(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: modernise(item) for key, item in value.items()}
    if isinstance(result.get("cls"), str) and "_target_" not in result:
        result["_target_"] = result.pop("cls")
    if "_target_" in result and isinstance(result.get("params"), dict):
        result |= result.pop("params")
    return result


def _show(value: Any) -> str:
    text = {True: "true", False: "false", None: "null"}.get(value, str(value)) if _plain(value) else str(value)
    return text if len(text) < 80 else text[:77] + "..."


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)
