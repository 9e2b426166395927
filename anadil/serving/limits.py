"""What a client may send and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server; the command line sets the first ones."""

    max_bytes: int = 500 * 2**20  # of an upload
    max_s: float = 3 * 3600.0  # of a recording
    queue: int = 64  # short recordings that are being recognised or wait
    long_queue: int = 8  # the same of long ones
    streams: int = 8  # WebSockets at a time
    per_minute: float = 600.0  # requests of one key, or of one address if there are no keys; 0: no limit
    answer_s: float = 900.0  # from the last byte of a request to its answer
    spool_bytes: int = 4 * 2**30  # of all uploads at a time
    idle_s: float = 20.0  # between two pieces of a request
    header_s: float = 15.0  # from the connection to the end of the headers
    least_bytes_per_s: float = 1000.0  # of a body, after `idle_s`
    body_bytes: int = 2**20  # of requests that are no uploads
