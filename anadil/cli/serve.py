"""`anadil serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import verb
from anadil.cli.options import number

if TYPE_CHECKING:
    import logging

EXAMPLE = "Example: anadil serve exported/mdw --data archive, then open http://localhost:8321/ in a browser"


@verb
def serve(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Exported folders or model folders, each as PATH or NAME=PATH."),
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of the project: recordings and corrections. It is made if it is not there.")
    ] = Path("anadil-data"),
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. Others than those of this machine itself need keys; 0.0.0.0 is all."),
    ] = "127.0.0.1",
    port: Annotated[int, number(0, 65535, "Port; 0 lets the system choose.")] = 8321,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File of keys, a line for each: NAME KEY. It is read again when it changes. Also: ANADIL_API_KEYS."
        ),
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Origin of another site whose pages may use the server.")
    ] = None,
    workers: Annotated[
        int | None,
        number(1, 64, "Processes per model that recognise short recordings.", show_default="one per core, at most 4"),
    ] = None,
    queue: Annotated[int, number(1, 10_000, "Requests at a time; those beyond are answered with status 429.")] = 64,
    max_megabytes: Annotated[int, number(1, 100_000, "Largest upload.")] = 500,
    max_minutes: Annotated[float, number(0.1, 1440, "Longest recording.")] = 180.0,
    rate_limit: Annotated[
        float, number(0, 1_000_000, "Requests per minute of one key, or of one address without keys; 0 is no limit.")
    ] = 600.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Run a server: OpenAI's API for transcription, live recognition, and a page to transcribe and correct in.

    SIGTERM and Ctrl-C end it when it has finished what it has; SIGHUP loads the models again.
    """
    import os

    from anadil.errors import AnadilError

    try:
        from anadil.serving.app import ServerSettings
        from anadil.serving.limits import Limits
        from anadil.serving.server import log_to, serve
    except ImportError as error:
        raise AnadilError(
            f"the server's libraries are missing ({error})\n  next: pip install 'anadil[serve]'"
        ) from error
    from anadil.serving.keys import keys_from

    limits = Limits(max_bytes=max_megabytes * 2**20, max_s=60 * max_minutes, queue=queue, per_minute=rate_limit)
    settings = ServerSettings(
        models=named_models(models),
        data=data,
        host=host,
        limits=limits,
        n_workers=workers or min(4, os.cpu_count() or 1),
        origins=frozenset(cors or ()),
    )
    log_to(_handler())
    serve(settings, keys_from(api_key_file), port, lambda address: _started(address, data, browser))


def named_models(arguments: list[str]) -> dict[str, Path]:
    """Folders by name: NAME=PATH, else the name in an exported folder's config.json, else the folder's own.

    Raises AnadilError if one is no model, or two have the same name.
    """
    from anadil.errors import AnadilError
    from anadil.export.layout import CONFIG, MODEL, read_settings
    from anadil.recognition.load import refuse_other_folders

    found: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        folder = Path(path if equals and not Path(argument).exists() else argument)
        refuse_other_folders(folder)
        if not equals or Path(argument).exists():
            is_exported = (folder / MODEL).is_file() and (folder / CONFIG).is_file()
            name = read_settings(folder).name if is_exported else folder.resolve().name
        if not name or name in found:
            raise AnadilError(
                f"two models are called {name!r}: {found.get(name)} and {folder}\n  next: name them: NAME=PATH"
                if name
                else f"{argument!r} has no name before the equals sign"
            )
        found[name] = folder
    return found


def _handler() -> logging.Handler:
    import logging
    import sys

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _started(address: str, data: Path, browser: bool) -> None:
    import sys
    import threading
    import webbrowser

    print(f"the page is at {address} and the API at {address}docs", file=sys.stderr)
    print(
        f"recordings and corrections are kept in {data.resolve()}; Ctrl-C ends the server", file=sys.stderr, flush=True
    )
    if browser and sys.stderr.isatty():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


command = serve
