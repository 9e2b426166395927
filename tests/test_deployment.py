"""The files of a deployment (docs/deploy.md) agree with the repository and with the options of `anadil serve`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from anadil.cli.serve import serve

ROOT = Path(__file__).parents[1]
DEPLOY = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's (instruction, arguments), with continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def arguments_of(name: str) -> list[str]:
    """The Dockerfile's ENTRYPOINT or CMD."""
    (found,) = (json.loads(rest) for kind, rest in instructions() if kind == name)
    assert isinstance(found, list)
    return found


def parsed(command: list[str]) -> dict[str, Any]:
    """The options of a command line `.../anadil serve ...`, as `anadil serve` reads them. An unknown one is an error."""
    program, verb, *rest = command
    assert Path(program).name == "anadil" and verb == "serve"
    app = typer.Typer()
    app.command()(serve)
    click = typer.main.get_command(app)
    return click.make_context("serve", rest, resilient_parsing=False).params


def unit() -> str:
    (found,) = re.findall(r"```ini\n(.*?)```", DEPLOY, re.DOTALL)
    return str(found)


def test_every_file_that_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    copied = [path for kind, rest in instructions() if kind == "COPY" for path in rest.split()[:-1]]
    assert "pyproject.toml" in copied and "anadil" in copied
    for path in copied:
        assert (ROOT / path).exists() and f"!{path}" in ignored, path


def test_the_image_installs_extras_that_exist_and_has_what_the_package_is_built_from() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (install,) = (rest for kind, rest in instructions() if kind == "RUN" and "pip install" in rest)
    (extras,) = re.findall(r"\.\[([\w,]+)\]", install)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    copied = {path for kind, rest in instructions() if kind == "COPY" for path in rest.split()[:-1]}
    assert {project["readme"], "LICENSE", "constraints.txt"} <= copied


def test_the_user_of_the_image_owns_what_it_writes_to() -> None:
    """A new volume gets the owner that its folder has in the image."""
    kinds = [kind for kind, _ in instructions()]
    made = " ".join(rest for kind, rest in instructions()[: kinds.index("USER")] if kind == "RUN")
    data = str(parsed([*arguments_of("ENTRYPOINT"), *arguments_of("CMD")])["data"])
    assert (
        arguments_of("VOLUME") == [data] and f"--owner {dict(instructions())['USER']} " in made and data in made.split()
    )


def test_the_command_lines_are_those_that_anadil_serve_takes() -> None:
    alone = parsed([*arguments_of("ENTRYPOINT"), *arguments_of("CMD")])
    assert alone["host"] == "0.0.0.0" and alone["models"] == ["/models/default"]
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["anadil"]
    composed = parsed([*arguments_of("ENTRYPOINT"), *service["command"]])
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    assert {str(composed["api_key_file"]), *composed["models"], str(composed["data"])} <= mounted
    assert service["ports"][0].endswith(f":{composed['port']}")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit(), re.MULTILINE)
    assert parsed(shlex.split(start))["data"] == Path("/var/lib/anadil")


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd on this machine: apt-get install systemd"
)
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Its program and its user are not on this machine, so /bin/true and root stand for them."""
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit(), flags=re.MULTILINE).replace(
        "User=anadil", "User=root"
    )
    path = tmp_path / "anadil.service"
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and str(path) not in done.stderr, done.stderr
