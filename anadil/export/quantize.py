"""Quantised versions of an exported graph: int8, dynamic or calibrated, and float16 for GPUs.

Features stay float32 in all of them (power spectra span more than float16 and int8 can represent), and the head does in
int8. Whether a version is good enough is measured elsewhere (export/gate.py).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from anadil.errors import AnadilError, shortened
from anadil.export.layout import OUTPUTS
from anadil.export.speech import Feed

FEATURES = "/features/"
"""How the names of the nodes begin that compute features: PyTorch's exporter names nodes after modules."""

_WEIGHTED = ("Conv", "MatMul", "Gemm")
_ELEMENTWISE = ("Mul", "Add", "Relu", "Clip")
"""Quantised between two quantised layers, so that numbers need not become float and int8 again: 1.2 times as fast."""

_GROUPS = 40
"""The most parts of a network whose sensitivity is measured one by one."""


@dataclass(frozen=True)
class Layers:
    """The nodes of a graph that could be quantised."""

    weighted: tuple[str, ...]  # names of convolutions and matrix products with fixed weights
    head: str  # the last of them
    features: tuple[str, ...]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Parts of the network by name: its blocks, or larger parts if it has very many."""
        for depth in (5, 4, 3, 2, 1):
            groups: dict[str, list[str]] = {}
            for name in self.weighted:
                groups.setdefault("/".join(name.split("/")[: depth + 1]), []).append(name)
            if len(groups) <= _GROUPS:
                break
        return {name: tuple(some) for name, some in groups.items()}


def read_layers(graph: Path) -> Layers:
    """What can be quantised. Raises AnadilError if there is nothing."""
    model = onnx.load(str(graph), load_external_data=False)
    fixed = {one.name for one in model.graph.initializer}
    weighted = [
        node.name
        for node in model.graph.node
        if node.op_type in _WEIGHTED and not node.name.startswith(FEATURES) and fixed & set(node.input[:2])
    ]
    features = tuple(node.name for node in model.graph.node if node.name.startswith(FEATURES))
    if len(weighted) < 2 or not features:
        raise AnadilError(
            "the graph has no layer that can be quantised to int8: no convolution or matrix product with fixed weights "
            "between features and head\n  next: export with --int8 never"
        )
    return Layers(tuple(weighted[:-1]), weighted[-1], features)


def simplified(graph: Path, out: Path) -> None:
    """Write the graph with constants folded and batch norms merged, as the quantisers expect it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


class Int8:
    """Calibrated int8 versions of a graph (QDQ format, weights per channel, activations uint8).

    Weights use 7 of the 8 bits. ONNX Runtime adds pairs of products in 16 bits on processors without VNNI, and 8 bits
    overflow there: small-2d-sc lost 22 points of CER. So a file has the same errors on every processor (docs/LOG.md).
    Ranges of activations are measured once; each `write` may keep other layers float.
    """

    def __init__(self, graph: Path, layers: Layers, inputs: Sequence[Feed]) -> None:
        self._graph, self._layers, self._inputs = graph, layers, inputs
        self._ranges: Any = None

    def write(self, out: Path, keep_float: Sequence[str] = ()) -> None:
        """Write the version in which the nodes `keep_float` stay float, and what computes their inputs. Raises AnadilError."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        with _quiet("quantised to int8"):
            self._ranges = self._ranges or self._calibrate()
            model = _with_shapes(self._graph)
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=True,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=[*self._layers.features, self._layers.head, *_with_producers(model, keep_float)],
                op_types_to_quantize=[*_WEIGHTED, *_ELEMENTWISE],
                # the mel filters are the left factor; products of two activations (attention) lose too much
                extra_options={"MatMulConstBOnly": True},
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(out), False)

    def _calibrate(self) -> Any:
        """Ranges of all activations over the calibration data."""
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        inputs = iter(self._inputs)

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> Any:
                return next(inputs, None)

        with tempfile.TemporaryDirectory() as folder:
            calibrator = create_calibrator(
                self._graph,
                [*_WEIGHTED, *_ELEMENTWISE],
                augmented_model_path=os.path.join(folder, "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )
            calibrator.collect_data(Reader())
            return calibrator.compute_data()


def write_dynamic(graph: Path, layers: Layers, out: Path) -> bool:
    """Write the version with int8 weights whose activations are quantised as they come. False: no layer of its kind.

    Only matrix products: ONNX Runtime has no fast kernel for dynamic convolutions (a thirtieth of float's speed on
    small-2d).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(graph), load_external_data=False)
    products = [node.name for node in model.graph.node if node.op_type != "Conv" and node.name in layers.weighted]
    if not products:
        return False
    with _quiet("quantised to int8"):
        quantize_dynamic(
            graph,
            out,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,  # 7 bits, as in `Int8`
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*layers.features, layers.head],
            extra_options={"MatMulConstBOnly": True},
        )
    return True


def write_float16(graph: Path, layers: Layers, out: Path) -> None:
    """Write the version with float16 weights and activations; features, inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quiet("converted to float16"):
        model = convert_float_to_float16(
            onnx.load(str(graph)),
            keep_io_types=True,
            node_block_list=list(layers.features),
            op_block_list=["LogSoftmax", "ReduceSum", "Range", "CumSum", "If"],
        )
        onnx.save(model, str(out))


def sensitivities(
    int8: Int8, layers: Layers, expected: Any, folder: Path, inputs: Sequence[Feed], report: Callable[[int, int], None]
) -> list[tuple[str, float]]:
    """How much less the log-probs of the int8 graph diverge from those of the session `expected` if a part stays float.

    Yields (part, fall of the mean Kullback-Leibler divergence per frame, nats), the most sensitive part first.
    """
    references = [expected.run(list(OUTPUTS), one) for one in inputs]

    def mean_divergence(keep_float: Sequence[str]) -> float:
        path = folder / "part.onnx"
        int8.write(path, keep_float)
        session = open_session(path)
        return divergence(references, [session.run(list(OUTPUTS), one) for one in inputs])

    groups = layers.groups
    of_all, falls = mean_divergence(()), []
    for done, (name, nodes) in enumerate(groups.items(), start=1):
        falls.append((name, of_all - mean_divergence(nodes)))
        report(done, len(groups))
    return sorted(falls, key=lambda one: -one[1])


def divergence(expected: Sequence[Sequence[np.ndarray]], found: Sequence[Sequence[np.ndarray]]) -> float:
    """Mean Kullback-Leibler divergence per frame, nats, of log-probs `found` from `expected`; pairs (log-probs, counts)."""
    total, n = 0.0, 0
    for (wanted, counts), (given, _) in zip(expected, found, strict=True):
        for row, other, count in zip(wanted, given, counts, strict=True):
            total += float((np.exp(row[:count]) * (row[:count] - other[:count])).sum())
            n += int(count)
    return total / max(n, 1)


def open_session(graph: Path, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU with a fixed number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _with_producers(model: Any, names: Sequence[str]) -> set[str]:
    """The nodes, and those that compute their inputs, up to the next elementwise one.

    ONNX Runtime quantises a float convolution again, with one scale for all channels, if its input and its output are
    quantised (its WeightBiasQuantization). So its input stays float too.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    found, left = set[str](), [node for node in model.graph.node if node.name in set(names)]
    while left:
        node = left.pop()
        found.add(node.name)
        producer = producers.get(node.input[0])
        if node.op_type in _WEIGHTED and producer is not None and producer.op_type in (*_WEIGHTED, *_ELEMENTWISE):
            left.append(producer)
    return found


def _with_shapes(graph: Path) -> Any:
    """The graph with the shapes of its tensors, as far as ONNX can infer them."""
    return onnx.shape_inference.infer_shapes(onnx.load(str(graph)))


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Within the block the quantisers print and log nothing, and raise AnadilError."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except AnadilError:
        raise
    except Exception as error:  # a dozen classes of onnx and ONNX Runtime
        raise AnadilError(
            f"the graph cannot be {what}: {type(error).__name__}: {shortened(str(error), 300)}\n"
            "  next: export without --int8 and --fp16"
        ) from error
    finally:
        root.setLevel(before)
