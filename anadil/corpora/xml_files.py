"""XML files of strangers: parsed without entities and external documents, with a limit on their size."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.etree import ElementTree

import defusedxml
import defusedxml.ElementTree

from anadil.corpora.text_files import MAX_BYTES
from anadil.errors import AnadilError

_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")


def parse_xml(file: Path, root_tag: str, program: str, allow_dtd: bool = False) -> ElementTree.Element:
    """The root element of an XML file, which must be `root_tag`. `program` writes such files; messages name it.

    The encoding is that of the XML declaration or byte-order mark, UTF-8 without these. With `allow_dtd`, the file may
    name a DTD, which is never opened; entities are refused in any case. Raises AnadilError if the file is too large, is
    not XML, or has another root element.
    """
    if file.stat().st_size > MAX_BYTES:
        raise AnadilError(
            f"{file}: larger than {MAX_BYTES:,} bytes, the limit for annotation files\n  next: check the path"
        )
    try:
        root = _parse(file.read_bytes(), allow_dtd)
    except defusedxml.DefusedXmlException as error:
        raise AnadilError(f"{file}: declares XML entities or a DTD, which {program} never writes: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnadilError(
            f"{file}: not readable as XML: {error}\n"
            f"  next: open it in {program} and save it again, or use an earlier copy"
        ) from None
    if root.tag.rpartition("}")[2] != root_tag:
        raise AnadilError(f"{file}: not a file of {program}: expected <{root_tag}>, found <{root.tag}>")
    return root


def _parse(content: bytes, allow_dtd: bool) -> ElementTree.Element:
    """Parse XML. Encodings of several bytes, which expat does not know (Shift_JIS, GB18030), are decoded first."""
    text: bytes | str = content
    declared = _DECLARATION.match(content)
    if declared and codecs.lookup(declared[1].decode("ascii")).name not in ("utf-8", "utf-16", "us-ascii", "iso8859-1"):
        text = content.decode(declared[1].decode("ascii"))
    root: ElementTree.Element = defusedxml.ElementTree.fromstring(text, forbid_dtd=not allow_dtd)
    return root
