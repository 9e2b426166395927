"""Blocks of QuartzNets by name: data for anadil.models.quartznet."""

from __future__ import annotations

from typing import Any


def _paper_blocks(copies: int) -> list[dict[str, Any]]:
    """Table 1 of arXiv:1910.10261: five groups of `copies` blocks of five repeats."""
    groups = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
    return [
        {"filters": 256, "kernel": 33, "stride": 2},
        *(
            {"filters": filters, "kernel": kernel, "repeat": 5, "residual": True}
            for filters, kernel in groups
            for _ in range(copies)
        ),
        {"filters": 512, "kernel": 87, "dilation": 2},
        {"filters": 1024, "kernel": 1, "separable": False},
    ]


PRESETS: dict[str, list[dict[str, Any]]] = {
    # For a CPU and few hours: 4x stride from the start (40 ms frames), so that a second of audio costs 25 frames
    "small": [
        {"filters": 128, "kernel": 11, "stride": 2},
        {"filters": 192, "kernel": 11, "stride": 2},
        {"filters": 192, "kernel": 13, "repeat": 3, "residual": True},
        {"filters": 256, "kernel": 17, "repeat": 3, "residual": True},
        {"filters": 256, "kernel": 21, "repeat": 3, "residual": True},
        {"filters": 320, "kernel": 25, "repeat": 3, "residual": True},
        {"filters": 384, "kernel": 29, "dilation": 2},
        {"filters": 512, "kernel": 1, "separable": False},
    ],
    "5x5": _paper_blocks(1),
    "15x5": _paper_blocks(3),
}
