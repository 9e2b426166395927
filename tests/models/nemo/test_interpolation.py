from __future__ import annotations

from typing import Any

import pytest

from anadil.errors import AnadilError
from anadil.models.nemo.interpolation import resolve


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"a": 5, "b": {"c": "${a}"}}, {"a": 5, "b": {"c": 5}}),  # the value, not its text
        ({"a": 5, "b": "x-${a}-${c.d}", "c": {"d": None}}, {"a": 5, "b": "x-5-None", "c": {"d": None}}),
        ({"a": {"b": 1, "c": "${.b}", "d": {"e": "${..b}"}}}, {"a": {"b": 1, "c": 1, "d": {"e": 1}}}),  # relative
        ({"a": "${b}", "b": "${c}", "c": [1, "${d}"], "d": 2}, {"a": [1, 2], "b": [1, 2], "c": [1, 2], "d": 2}),
        ({"a": ["x", "y"], "b": "${a[1]}${a.0}"}, {"a": ["x", "y"], "b": "yx"}),
        ({"k": "b", "a": {"b": 3}, "c": "${a.${k}}"}, {"k": "b", "a": {"b": 3}, "c": 3}),  # nested
        ({"defaults": "${base}", "base": {"x": 1}, "c": "${defaults.x}"}, {"defaults": {"x": 1}, "base": {"x": 1}, "c": 1}),
        ({"a": 1, "b": "${model.a}"}, {"a": 1, "b": 1}),  # the section model alone, as archives keep it
        ({"model": {"a": 1, "b": "${model.a}"}}, {"model": {"a": 1, "b": 1}}),
    ],
)  # fmt: skip
def test_references_are_replaced(config: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(config)
    assert resolve(config, "c.yaml") == (expected, [])
    assert repr(config) == before


def test_unresolved_interpolations_stay_and_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "value")
    config = {"a": {"b": "${oc.env:SECRET}"}, "c": "${no.such}", "d": ["${now:%Y}"], "e": "${......a}"}
    resolved, unresolved = resolve(config, "c.yaml")
    assert resolved == config and len(unresolved) == 4
    assert unresolved[:2] == ["a.b: ${oc.env:SECRET}", "c: ${no.such}"] and "value" not in str(unresolved)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": "${b}", "b": "${a}"}, "circular reference"),
        ({"a": "${a}"}, "circular reference"),
        ({"a": {"b": "${a}"}}, "circular reference|expand to too|nested too deep"),
        ({"a0": ["x"] * 10} | {f"a{i}": [f"${{a{i - 1}}}"] * 10 for i in range(1, 12)}, "expand to too"),
        ({"a0": "x" * 99} | {f"a{i}": f"${{a{i - 1}}}" * 10 for i in range(1, 12)}, "expand to too"),
    ],
)
def test_circles_and_explosions_are_errors(config: dict[str, Any], message: str) -> None:
    with pytest.raises(AnadilError, match=message):
        resolve(config, "c.yaml")
