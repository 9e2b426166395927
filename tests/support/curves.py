"""Curves as they stand in an SVG chart of ours."""

from __future__ import annotations

import xml.etree.ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"


def curves(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Points of each curve, by "chart: curve", in the picture's units: y grows downwards."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if ": " in group.get("id", ""):
            (path,) = (path for path in group.findall(f"{SVG}path"))
            numbers = [float(part) for part in path.get("d", "").split() if part not in "ML"]
            found[group.get("id", "")] = list(zip(numbers[::2], numbers[1::2], strict=True))
    return found
