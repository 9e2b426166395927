"""Continuous integration: its files can be read, and what they name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_workflow_covers_three_systems_and_both_ends_of_the_pythons() -> None:
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.14"]


def test_actions_are_pinned_by_their_major_version() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in used)


def test_what_is_run_is_there() -> None:
    commands = [step["run"] for step in STEPS if "run" in step]
    commands += (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    makes = {command.split()[1] for command in commands if command.startswith("make ")}
    assert makes == {"lint", "test", "docs"} and makes <= targets()


def test_missing_real_speech_skips_tests_in_the_workflow_only() -> None:
    """`shared` in conftest.py fails with CI=true, which .ci/run has and the workflow must not have."""
    assert WORKFLOW["jobs"]["test"]["env"]["CI"] == "false"


def test_hooks_run_from_the_environment_of_make() -> None:
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in HOOKS)


def test_the_hooks_file_is_valid() -> None:
    pytest.importorskip("pre_commit")
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    assert subprocess.run(command).returncode == 0
