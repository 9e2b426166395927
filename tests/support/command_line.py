"""The command line, called in this process."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anadil.cli.main import app


def anadil(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        pytest.fail("".join(["a traceback for the user:\n", *traceback.format_exception(result.exception)[-3:]]))
    return result


def succeeds(*arguments: object) -> Result:
    result = anadil(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def fails(*arguments: object) -> str:
    """The one error message of a command whose input is at fault."""
    result = anadil(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("error: ") == len(re.findall("^error: ", result.stderr, re.MULTILINE)) == 1
    return result.stderr[result.stderr.index("error: ") :]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
