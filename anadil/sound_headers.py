"""What the headers of sound files say of their length, where the file has more or less than that.

Sources of the formats: RIFF/WAVE (Microsoft, 1991); FLAC (RFC 9639); Ogg (RFC 3533); MPEG audio (ISO 11172-3 and 13818-3)
with the frame counts of Xing, LAME ("Info") and Fraunhofer (VBRI).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write WAV into a pipe put the largest size into its header, about 2 or 4 GiB: the file is not cut off."""

_RAW_SUBTYPES = {  # (format tag, bits per sample) of WAV: how libsndfile calls it without a header
    (1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32",
    (3, 32): "FLOAT", (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW",
}  # fmt: skip

_FLAC_TAIL = 1 << 15
"""Bytes at the end of a FLAC file that are searched for its last frame; one of 4096 stereo samples has at most 16 KiB."""

_MP3_SEARCH = 1 << 13
"""Bytes behind the tags in which the first MPEG frame must be."""


@dataclass(frozen=True, slots=True)
class RawAudio:
    """Samples in a WAV file from byte `start` to its end."""

    start: int
    sample_rate: int
    channels: int
    subtype: str


@dataclass(frozen=True, slots=True)
class Length:
    """How the length of a file differs from what libsndfile takes from its header."""

    raw: RawAudio | None = None  # a WAV file with more samples than the header gives
    end: int | None = None  # a FLAC file that was cut off: its whole frames end before this sample
    last_frame: int | None = None  # of a FLAC file: the first sample of the last frame, which may be damaged
    is_short: bool = False  # an MP3 file with fewer bytes than its header gives: only decoding tells its length
    patch: tuple[int, bytes] | None = None  # an MP3 file: what libsndfile must find at this byte to know the length


AS_STATED = Length()


def read_length(path: Path) -> Length:
    """Compare the header of a WAV, FLAC or MP3 file with the file; AS_STATED for all others, and if they agree."""
    with open(path, "rb") as file:
        start = file.read(12)
        if start[:4] == b"RIFF" and start[8:] == b"WAVE":
            return Length(raw=_understated(file, os.fstat(file.fileno()).st_size))
        if start[:4] == b"fLaC":
            return _flac_length(file)
        if start[:3] == b"ID3" or (start[:1] == b"\xff" and start[1:2] >= b"\xe0"):
            return _mp3_length(file)
    return AS_STATED


def _understated(file: BinaryIO, size: int) -> RawAudio | None:
    """How to read a WAV file whose header gives fewer bytes of samples than follow; None for all other files.

    A recorder that loses power leaves 0 there, one that writes more than 4 GB the rest of a division. What follows
    the samples is then no chain of chunks that ends with the file.
    """
    layout: bytes = b""
    while len(header := file.read(8)) == 8:
        name, length, start = header[:4], int.from_bytes(header[4:], "little"), file.tell()
        if name == b"fmt ":
            layout = file.read(min(length, 40))
        elif name == b"data":
            break
        file.seek(start + length + length % 2)
    else:
        return None
    if start + length >= size or len(layout) < 16 or _is_chain(file, start + length + length % 2, size):
        return None
    tag, channels = int.from_bytes(layout[:2], "little"), int.from_bytes(layout[2:4], "little")
    if tag == 0xFFFE and len(layout) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the tag is at the start of the subformat
        tag = int.from_bytes(layout[24:26], "little")
    subtype = _RAW_SUBTYPES.get((tag, int.from_bytes(layout[14:16], "little")))
    rate = int.from_bytes(layout[4:8], "little")
    if subtype is None or channels == 0 or rate == 0:
        return None
    return RawAudio(start, rate, channels, subtype)


def _is_chain(file: BinaryIO, start: int, end: int) -> bool:
    """Whether chunks with printable names follow one another from `start` to the end of the file."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(8)
        if not all(32 <= byte < 127 for byte in header[:4]):
            return False
        start += 8 + int.from_bytes(header[4:], "little")
        start += start % 2
    return start <= end + 1


def _flac_length(file: BinaryIO) -> Length:
    """Where the last frame of a FLAC file starts, and whether it is the last one that the header promises."""
    file.seek(8)
    info = file.read(34)
    if len(info) < 34:
        return AS_STATED
    total = int.from_bytes(info[13:18], "big") & (2**36 - 1)
    fixed = int.from_bytes(info[:2], "big")  # samples in each frame but the last, if all have as many
    if total == 0:
        return AS_STATED
    file.seek(max(42, os.fstat(file.fileno()).st_size - _FLAC_TAIL))
    tail = file.read()
    position = len(tail)
    while (position := tail.rfind(b"\xff", 0, position)) >= 0:
        frame = _flac_frame(tail[position : position + 16], fixed)
        if frame is not None and frame[0] < total:
            first, n_samples = frame
            return Length(last_frame=first, end=first if first + n_samples < total else None)
    return AS_STATED


def _flac_frame(header: bytes, fixed: int) -> tuple[int, int] | None:
    """The first sample of a frame and how many it has; None if this is no frame header (RFC 9639, section 9.1)."""
    if len(header) < 6 or header[:2] not in (b"\xff\xf8", b"\xff\xf9") or header[3] & 1:
        return None
    size_code, rate_code, n_more = header[2] >> 4, header[2] & 15, 0
    while n_more < 7 and header[4] & (0x80 >> n_more):
        n_more += 1
    n_more = max(0, n_more - 1)  # bytes of the coded number behind its first one, as in UTF-8
    number = header[4] & (0x7F if n_more == 0 else 0x3F >> n_more)
    for byte in header[5 : 5 + n_more]:
        number = number << 6 | byte & 0x3F
    at = 5 + n_more
    if size_code in (6, 7):
        n_samples = int.from_bytes(header[at : at + size_code - 5], "big") + 1
        at += size_code - 5
    else:
        n_samples = 192 if size_code == 1 else 144 << size_code if size_code < 6 else 1 << size_code
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size_code == 0 or rate_code == 15 or len(header) <= at or _crc8(header[:at]) != header[at]:
        return None
    return (number if header[1] & 1 else number * fixed), n_samples


def _crc8(data: bytes) -> int:
    """The checksum of FLAC's frame headers, polynomial x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def _mp3_length(file: BinaryIO) -> Length:
    """Whether an MP3 file has fewer bytes of MPEG frames than its Xing, Info or VBRI header gives.

    libsndfile does not know VBRI headers. Without a header it takes all frames to be as long as the first, and would not
    read the rest of a file with a variable bit rate. So the counts of a VBRI header are given to it as a Xing header.
    """
    file.seek(0)
    start = 0
    while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
        length = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        start += 10 + length + (10 if tag[5] & 0x10 else 0)
        file.seek(start)
    file.seek(start)
    content = file.read(_MP3_SEARCH)
    starts = (i for i in range(len(content) - 4) if content[i] == 0xFF)
    found = next(((i, side) for i in starts if (side := _side_information(content[i : i + 4]))), None)
    if found is None:
        return AS_STATED
    first, side_bytes = found
    size = os.fstat(file.fileno()).st_size - start - first
    at = first + 4 + side_bytes
    xing, vbri = content[at : at + 16], content[first + 36 : first + 54]
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16 and xing[7] & 1:
        has_bytes = xing[7] & 2  # without them, only decoding tells
        return Length(is_short=not has_bytes or int.from_bytes(xing[12:], "big") > size)
    if vbri[:4] == b"VBRI" and len(vbri) == 18:
        n_bytes, n_frames = vbri[10:14], vbri[14:18]
        header = b"Xing" + (3).to_bytes(4, "big") + n_frames + n_bytes
        return Length(is_short=int.from_bytes(n_bytes, "big") > size, patch=(start + at, header))
    return AS_STATED


def _side_information(header: bytes) -> int:
    """Bytes of side information behind the header of an MPEG layer 3 frame; 0 if this is no such header."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3  # version 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    is_header = header[0] == 0xFF and header[1] >= 0xE0 and version != 1 and layer == 1
    if not is_header or header[2] >> 4 in (0, 15) or header[2] >> 2 & 3 == 3:  # bit rate and sample rate
        return 0
    is_mono = header[3] >> 6 == 3
    return (17 if is_mono else 32) if version == 3 else (9 if is_mono else 17)


def promised_frames(report: str, form: str, n_frames: int) -> int:
    """Sample frames according to the header, by libsndfile's report on a file (`extra_info`); at least `n_frames`.

    `form` is libsndfile's name of the format.
    """
    # libsndfile notes a chunk whose header promises more than there is: "data : 105270 (should be 104544)"
    cut = re.search(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", report, re.MULTILINE)
    if cut and 0 < int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
        return round(n_frames * int(cut[1]) / int(cut[2]))
    large = re.search(r"does not match value from 'ds64' chunk of (\d+)", report)
    if large:
        return max(n_frames, int(large[1]))
    size, frame = (re.search(rf"^\s*{name}\s*: (\d+)$", report, re.MULTILINE) for name in ("data", "Block Align"))
    if form == "W64" and size and frame and int(frame[1]) > 0:
        return max(
            n_frames, (int(size[1]) - 24) // int(frame[1])
        )  # a chunk of Wave64 counts its own header of 24 bytes
    return n_frames


def ends_inside_page(path: Path) -> bool:
    """Whether an Ogg file ends in the middle of a page (RFC 3533: a page's header holds its length)."""
    tail_size = 2 * 65307  # two of the longest pages
    with open(path, "rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - tail_size), os.SEEK_SET)
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    return len(page) < 27 or len(page) < 27 + page[26] or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
