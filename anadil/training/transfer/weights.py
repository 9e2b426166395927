"""Weights from a model of another alphabet: the encoder by name and shape, the head's rows label by label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.text.relatives import LabelInit, label_inits
from anadil.training.monitoring.report import Reporter
from anadil.training.optimizers import Pull
from anadil.training.transfer.settings import InitSettings
from anadil.training.transfer.source import Source

HEAD = "decoder."
"""Names of the head's tensors begin so, in NeMo's models and in ours; their first dimension is labels + blank."""

NOISE = 0.05
"""Standard deviation of what is added to a row that is not its own label's, as a share of the source rows' own.

Enough to part letters that start from the same one, little beside what parts different letters.
"""

SHOWN = 5

INIT, START = "init.json", "start.safetensors"


@dataclass(frozen=True)
class Transferred:
    """What became of each tensor and each label: RUN/init.json."""

    source: Source
    loaded: list[str]  # tensors copied whole
    mapped: list[str]  # tensors whose rows were copied label by label
    new: list[str]  # tensors of this model that the source has not, or in another shape
    unused: list[str]  # tensors of the source that this model has no place for
    labels: list[LabelInit]


def transfer(
    network: nn.Module,
    labels: Sequence[str],
    source: Source,
    weights: dict[str, Tensor],
    init: InitSettings,
    seed: int,
) -> Transferred:
    """Put the source's `weights` into `network`, whose labels are `labels` with the blank behind them.

    Raises AnadilError naming what does not fit if less than the whole encoder would be loaded, unless `init.partial`.
    """
    own = network.state_dict()
    fits = {name for name, tensor in own.items() if name in weights and weights[name].shape == tensor.shape}
    loaded = [name for name in own if name in fits and not name.startswith(HEAD)]
    misfits = [name for name in (own | weights) if not name.startswith(HEAD) and name not in fits]
    if misfits and not init.partial:
        raise AnadilError(_misfit(misfits, own, weights, source))
    head = [name for name in own if name.startswith(HEAD)]
    mappable = all(name in weights and weights[name].shape[1:] == own[name].shape[1:] for name in head)
    plan = label_inits(labels, source.labels) if init.head != "new" and mappable else []
    own |= {name: weights[name] for name in loaded}
    generator = torch.Generator().manual_seed(seed)
    if plan:
        own |= {name: map_rows(own[name], weights[name], plan, source.labels, generator) for name in head}
    network.load_state_dict(own)
    used = {*loaded, *(head if plan else [])}
    new = [name for name in own if name not in used]
    unused = [name for name in weights if name not in used]
    return Transferred(source, loaded, head if plan else [], new, unused, plan)


def map_rows(
    new: Tensor, old: Tensor, plan: Sequence[LabelInit], known: Sequence[str], generator: torch.Generator
) -> Tensor:
    """Rows (labels + blank, ...) of a new head from the old one's: as `plan` says, the blank from the blank.

    Rows of the same label are copied bit by bit; new labels keep the row that they have.
    """
    row_of = {label: i for i, label in enumerate(known)}
    spread = NOISE * old[:-1].float().std(correction=0)
    rows = new.clone()
    rows[-1] = old[-1]
    for i, start in enumerate(plan):
        if start.kind == "new":
            continue
        origin = old[[row_of[label] for label in start.sources]]
        if start.kind == "same":
            rows[i] = origin[0]
        else:
            noise = torch.randn(rows[i].shape, generator=generator)
            rows[i] = origin.mean(dim=0) + spread * noise
    return rows


def tell(transferred: Transferred, network: nn.Module, report: Reporter) -> None:
    """Show what was loaded, mapped, new and unused; labels that start from another one, and those that are new."""
    own = network.state_dict()
    rows = []
    for name, tensors in (
        ("loaded", transferred.loaded),
        ("mapped by label", transferred.mapped),
        ("new", transferred.new),
    ):
        size = sum(own[tensor].numel() for tensor in tensors)
        rows.append([name, f"{len(tensors)}", f"{size:,}", _listed(tensors) if name == "new" else ""])
    rows.append(["unused in the source", f"{len(transferred.unused)}", "", _listed(transferred.unused)])
    report.table(f"LabelInit from {transferred.source.path}", ["tensors", "number", "values", "which"], rows)
    by_kind: dict[str, list[str]] = {}
    for start in transferred.labels:
        arrow = f" <- {' + '.join(start.sources)}" if start.kind in ("relative", "mean") else ""
        by_kind.setdefault(start.kind, []).append(f"{start.label!r}{arrow}")
    names = {"same": "copied", "relative": "from a relative", "mean": "from the mean of their letters", "new": "new"}
    used = {source for start in transferred.labels for source in start.sources}
    lines = [f"  {text}: {', '.join(by_kind[kind])}" for kind, text in names.items() if kind in by_kind]
    left = [repr(label) for label in transferred.source.labels if label not in used]
    if transferred.labels and left:
        lines.append(f"  the source's, not used: {', '.join(left)}")
    report.say("\n".join(["labels of the head:", *(lines or ["  all new"])]))


def save(transferred: Transferred, network: nn.Module, init: InitSettings, out: Path) -> None:
    """Write RUN/init.json and, for L2-SP, RUN/start.safetensors: a run goes on without its source. Raises AnadilError."""
    with whole_file(out / INIT) as beside:
        beside.write_text(json.dumps(asdict(transferred), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if init.l2_sp > 0:
        start = {name: tensor for name, tensor in network.named_parameters() if name in transferred.loaded}
        with whole_file(out / START) as beside:
            try:
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in start.items()}, beside)
            except SafetensorError as error:  # its own name for an I/O error
                raise OSError(str(error)) from error


def read_saved(out: Path) -> Transferred:
    """What `save` wrote. Raises AnadilError."""
    try:
        data = json.loads((out / INIT).read_text(encoding="utf-8"))
        labels = [LabelInit(start["label"], start["kind"], tuple(start["sources"])) for start in data["labels"]]
        return Transferred(**(data | {"source": Source(**data["source"]), "labels": labels}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AnadilError(_cannot_go_on(out / INIT, error)) from error


def pull_to_start(network: nn.Module, init: InitSettings | None, out: Path) -> Pull | None:
    """L2-SP, if the config asks for it; the start is as `save` wrote it. Raises AnadilError."""
    if init is None or init.l2_sp == 0:
        return None
    try:
        return Pull(network, load_file(out / START), init.l2_sp)
    except (OSError, SafetensorError, KeyError) as error:
        raise AnadilError(_cannot_go_on(out / START, error)) from error


def _cannot_go_on(path: Path, error: Exception) -> str:
    return (
        f"{path}, which a run that started from another model needs to go on, cannot be read: {error}\n"
        "  next: leave --resume out, to start anew"
    )


def _misfit(misfits: Sequence[str], own: dict[str, Tensor], weights: dict[str, Tensor], source: Source) -> str:
    def shape(tensors: dict[str, Tensor], name: str) -> str:
        return " x ".join(map(str, tensors[name].shape)) or "one number" if name in tensors else "not there"

    lines = [f"  {name}: {shape(own, name)}, in the source {shape(weights, name)}" for name in misfits[:SHOWN]]
    if len(misfits) > SHOWN:
        lines.append(f"  ... and {len(misfits) - SHOWN} more")
    n_fit = sum(not name.startswith(HEAD) and name not in misfits for name in own)
    return "\n".join(
        [
            f"the encoder of {source.path} is not this model's: {len(misfits)} tensors do not fit, {n_fit} do",
            *lines,
            "  next: leave the section model out (the source's is taken), or load what fits with init.partial=true",
        ]
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
