from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # sums in one order, in every process; set before NumPy and PyTorch are imported

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

# a test is never timed, nor how long its examples take to generate: machines are slow or busy
settings.register_profile("anadil", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anadil")

# a shell lets its background jobs ignore Ctrl-C, and their children too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real speech and golden results, kept beside the repository."""
    folder = (ROOT / os.environ.get("ANADIL_SHARED", "../shared")).resolve()
    if not folder.is_dir():
        message = f"no shared data at {folder}: set ANADIL_SHARED"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.jsonl, clips/ and run/, a finished training run that has learned them. Read only."""
    from tests.support.micro import train_micro  # imports PyTorch

    return train_micro(tmp_path_factory.mktemp("micro"))


@pytest.fixture(scope="session")
def exported(micro: Path) -> Path:
    """The exported folder of `micro`'s best model. Read only."""
    from anadil.export.onnx import export_folder

    export_folder(micro / "run/best", micro / "exported")
    return micro / "exported"


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """write_wav(name, samples or seconds of noise, rate=16000, **soundfile options) -> path below tmp_path."""

    def write(name: str, samples: np.ndarray | float, rate: int = 16000, **options: str) -> Path:
        if not isinstance(samples, np.ndarray):
            samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(samples * rate))
        soundfile.write(str(tmp_path / name), samples, rate, **options)
        return tmp_path / name

    return write
