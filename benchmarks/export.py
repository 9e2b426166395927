"""Speed of exported graphs on one core, in turns: seconds of audio per second of processor time.

    python benchmarks/export.py exported/float/model.onnx exported/int8/model.onnx [--seconds 60] [--profile]

The first graph is what the others are compared with. Noise in batches of 10 s; only ONNX Runtime's session, without
reading audio and decoding. Processor time of one thread, because it varies less with what else runs. `--profile` adds the
share of time of each kind of node.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import onnxruntime

from anadil.export.layout import INPUTS, OUTPUTS
from anadil.export.onnx import probe_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    inputs = dict(zip(INPUTS, probe_batch(16000, [10.0] * max(1, options.seconds // 10)), strict=True))
    seconds = 10.0 * max(1, options.seconds // 10)
    sessions = [open_session(graph) for graph in options.graphs]
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(options.runs + 1):
        for session, own in zip(sessions, times, strict=True):
            started = time.process_time()
            session.run(list(OUTPUTS), inputs)
            if turn:
                own.append(time.process_time() - started)
    for graph, own in zip(options.graphs, times, strict=True):
        ratio = statistics.median(first / one for first, one in zip(times[0], own, strict=True))
        print(f"{seconds / min(own):8.0f} x real time on one core, {ratio:.2f} times the first  {graph}")
    if options.profile:
        for graph in options.graphs:
            print(f"\n{graph}")
            for name, share in profile(graph, inputs):
                print(f"{share:7.1%} {name}")


def open_session(graph: Path, profile: str = "") -> onnxruntime.InferenceSession:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    session_options.log_severity_level = 3
    if profile:
        session_options.enable_profiling, session_options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(str(graph), session_options, providers=["CPUExecutionProvider"])


def profile(graph: Path, inputs: dict[str, object]) -> list[tuple[str, float]]:
    """Share of the time of each kind of node, convolutions by the shape of their filters."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(graph, f"{folder}/profile")
        for _ in range(3):
            session.run(list(OUTPUTS), inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind, shapes = event["args"]["op_name"], event["args"].get("input_type_shape", [])
            sizes = [size for one in shapes[1:] for size in one.values() if len(size) > 2]
            if kind.endswith("Conv") and sizes:
                weights = sizes[0]
                kind += f" {'depthwise' if weights[1] == 1 < weights[0] else 'full'} {weights[2:]}"
            times[kind] += event["dur"]
    return [(name, spent / times.total()) for name, spent in times.most_common(12)]


if __name__ == "__main__":
    main()
