"""Initialise a network from a source model: the encoder by name and shape, the rows of the CTC head by label."""

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

_HEAD, _CONDITIONING = "decoder.", "conditioning."
"""Prefixes of the names of the tensors that know labels: the head's, in NeMo's models too, whose first dimension is labels +
blank, and those of `model.self_conditioned`, which hold labels + blank several times."""

NOISE = 0.05
"""Standard deviation of the noise added to rows copied from other labels, as a share of that of the source's rows.

It separates labels that are initialised from the same one, and is small beside the differences between letters.
"""

_SHOWN = 5

_INIT, _START = "init.json", "start.safetensors"


@dataclass(frozen=True)
class Transferred:
    """The initialisation of each tensor and each label, as saved in RUN/init.json."""

    source: Source
    loaded: list[str]  # tensors copied whole
    mapped: list[str]  # tensors of the head, whose rows were initialised label by label
    new: list[str]  # tensors of this model that the source does not have, or has in another shape
    unused: list[str]  # tensors of the source that this model does not have, or has in another shape
    labels: list[LabelInit]


def transfer(
    network: nn.Module,
    labels: Sequence[str],
    source: Source,
    weights: dict[str, Tensor],
    init: InitSettings,
    seed: int,
) -> Transferred:
    """Copy the source's `weights` into `network`, whose head has a row for each of `labels` and one for the blank.

    Raises AnadilError that lists tensors which do not fit, if part of the encoder does not, unless `init.partial`.
    """
    own = network.state_dict()
    fits = {name for name, tensor in own.items() if name in weights and weights[name].shape == tensor.shape}
    labelled = (_HEAD, _CONDITIONING)
    loaded = [name for name in own if name in fits and not name.startswith(labelled)]
    misfits = [name for name in (own | weights) if not name.startswith(labelled) and name not in fits]
    if misfits and not init.partial:
        raise AnadilError(_misfit_message(misfits, own, weights, source))
    head = [name for name in own if name.startswith(_HEAD)]
    mappable = all(name in weights and weights[name].shape[1:] == own[name].shape[1:] for name in head)
    inits = label_inits(labels, source.labels) if init.head != "new" and mappable else []
    own |= {name: weights[name] for name in loaded}
    generator = torch.Generator().manual_seed(seed)
    if inits:
        own |= {name: map_rows(own[name], weights[name], inits, source.labels, generator) for name in head}
    conditioned = _map_conditioning(own, weights, inits, source.labels, generator)
    network.load_state_dict(own)
    mapped = [*(head if inits else []), *conditioned]
    used = {*loaded, *mapped}
    new = [name for name in own if name not in used]
    unused = [name for name in weights if name not in used]
    return Transferred(source, loaded, mapped, new, unused, inits)


def _map_conditioning(
    own: dict[str, Tensor],
    weights: dict[str, Tensor],
    inits: Sequence[LabelInit],
    known: Sequence[str],
    generator: torch.Generator,
) -> list[str]:
    """Fill the tensors of self-conditioning in `own` label by label; return the names of those that the source has.

    Where the source has none that fits, what the place adds to the channels is set to zero: the network begins as the source.
    """
    mapped: list[str] = []
    for head in [name for name in own if name.startswith(_CONDITIONING) and name.endswith(".head.weight")]:
        place = head.removesuffix(".head.weight")
        bias, back, back_bias = (f"{place}.{name}" for name in ("head.bias", "back.weight", "back.bias"))
        per_frame = len(own[head]) // (len(inits) + 1) if inits else 0
        if head not in weights or weights[head].shape != (per_frame * (len(known) + 1), *own[head].shape[1:]):
            own[back], own[back_bias] = torch.zeros_like(own[back]), torch.zeros_like(own[back_bias])
            continue
        for name in (head, bias, back):
            # (per_frame, labels + blank, ...): the projection back has the labels in its second dimension
            new, old = ((tensor.transpose(0, 1) if name == back else tensor) for tensor in (own[name], weights[name]))
            rows = torch.cat(
                [
                    map_rows(one, other, inits, known, generator)
                    for one, other in zip(new.chunk(per_frame), old.chunk(per_frame), strict=True)
                ]
            )
            own[name] = rows.transpose(0, 1).contiguous() if name == back else rows
        own[back_bias] = weights[back_bias]
        mapped += [head, bias, back, back_bias]
    return mapped


def map_rows(
    new: Tensor, old: Tensor, inits: Sequence[LabelInit], known: Sequence[str], generator: torch.Generator
) -> Tensor:
    """Rows (labels + blank, ...) of the new head from those of the old head, whose labels are `known`.

    The row of a label that both heads have is copied exactly, as is the blank's. Labels of kind `new` keep their row.
    """
    row_of = {label: i for i, label in enumerate(known)}
    noise_std = NOISE * old[:-1].float().std(correction=0)
    rows = new.clone()
    rows[-1] = old[-1]
    for i, init in enumerate(inits):
        if init.kind == "new":
            continue
        source_rows = old[[row_of[label] for label in init.sources]]
        if init.kind == "same":
            rows[i] = source_rows[0]
        else:
            noise = torch.randn(rows[i].shape, generator=generator)
            rows[i] = source_rows.mean(dim=0) + noise_std * noise
    return rows


def report_transfer(transferred: Transferred, network: nn.Module, report: Reporter) -> None:
    """Report the loaded, mapped, new and unused tensors, and the initialisation of each label."""
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
    report.table(f"Start from {transferred.source.path}", ["tensors", "number", "values", "names"], rows)
    by_kind: dict[str, list[str]] = {}
    for init in transferred.labels:
        arrow = f" <- {' + '.join(init.sources)}" if init.kind in ("relative", "mean") else ""
        by_kind.setdefault(init.kind, []).append(f"{init.label!r}{arrow}")
    names = {"same": "copied", "relative": "from a relative", "mean": "from the mean of their letters", "new": "new"}
    lines = [f"  {text}: {', '.join(by_kind[kind])}" for kind, text in names.items() if kind in by_kind]
    used = {label for init in transferred.labels for label in init.sources}
    unused = [repr(label) for label in transferred.source.labels if label not in used]
    if transferred.labels and unused:
        lines.append(f"  of the source, not used: {', '.join(unused)}")
    report.say("\n".join(["labels of the head:", *(lines or ["  all new"])]))


def save(transferred: Transferred, network: nn.Module, init: InitSettings, out: Path) -> None:
    """Write RUN/init.json and, for L2-SP, RUN/start.safetensors, so that a run can be resumed without its source.

    Raises AnadilError.
    """
    with whole_file(out / _INIT) as beside:
        beside.write_text(json.dumps(asdict(transferred), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if init.l2_sp > 0:
        start = {name: tensor for name, tensor in network.named_parameters() if name in transferred.loaded}
        with whole_file(out / _START) as beside:
            try:
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in start.items()}, beside)
            except SafetensorError as error:  # raised for I/O errors too
                raise OSError(str(error)) from error


def read_saved(out: Path) -> Transferred:
    """The contents of RUN/init.json. Raises AnadilError if it is missing or damaged."""
    try:
        data = json.loads((out / _INIT).read_text(encoding="utf-8"))
        labels = [LabelInit(init["label"], init["kind"], tuple(init["sources"])) for init in data["labels"]]
        return Transferred(**(data | {"source": Source(**data["source"]), "labels": labels}))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise AnadilError(_cannot_resume(out / _INIT, error)) from error


def pull_to_start(network: nn.Module, init: InitSettings | None, out: Path) -> Pull | None:
    """L2-SP's pull to the weights in RUN/start.safetensors; None without `init.l2_sp`. Raises AnadilError."""
    if init is None or init.l2_sp == 0:
        return None
    try:
        return Pull(network, load_file(out / _START), init.l2_sp)
    except (OSError, SafetensorError, KeyError) as error:
        raise AnadilError(_cannot_resume(out / _START, error)) from error


def _cannot_resume(path: Path, error: Exception) -> str:
    return (
        f"{path}, which a run with init.from needs to be resumed, cannot be read: {error}\n"
        "  next: leave --resume out, to start anew"
    )


def _misfit_message(misfits: Sequence[str], own: dict[str, Tensor], weights: dict[str, Tensor], source: Source) -> str:
    def shape(tensors: dict[str, Tensor], name: str) -> str:
        return " x ".join(map(str, tensors[name].shape)) or "one number" if name in tensors else "missing"

    lines = [f"  {name}: {shape(own, name)} here, {shape(weights, name)} in the source" for name in misfits[:_SHOWN]]
    if len(misfits) > _SHOWN:
        lines.append(f"  ... and {len(misfits) - _SHOWN} more")
    n_fit = sum(not name.startswith((_HEAD, _CONDITIONING)) and name not in misfits for name in own)
    return "\n".join(
        [
            f"the encoder of {source.path} differs from this model's: {len(misfits)} tensors do not fit, {n_fit} do",
            *lines,
            "  next: leave the section model out (the source's is used then), or load what fits with init.partial=true",
        ]
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
