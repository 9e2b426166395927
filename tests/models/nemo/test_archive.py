from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anadil.errors import AnadilError
from anadil.models.nemo.archive import CONFIG, WEIGHTS, archive_kind, read_archive
from anadil.models.nemo.read import read_nemo
from tests.support.nemo_models import golden, weight, write_archive, write_case, write_tar

PLAIN = b"encoder: {a: 1}\n"


def saved(value: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


WEIGHT_FILE = saved({"w": torch.ones(2)})


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("kind", ["nemo", "nemo, old pickle", "ckpt", "pickle alone"])
def test_a_malicious_pickle_is_refused_and_does_not_run(kind: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.nemo"
    evil = {"w": torch.ones(2), "x": Evil(trace)}
    if kind == "nemo":
        write_archive(path, {"encoder": {}}, evil)
    elif kind == "nemo, old pickle":
        write_tar(path, {CONFIG: PLAIN, WEIGHTS: pickle.dumps(evil, protocol=2)})
    elif kind == "ckpt":
        path.write_bytes(saved({"state_dict": evil, "hyper_parameters": {"cfg": {"encoder": {}}}}))
    else:
        path.write_bytes(pickle.dumps(evil))
    with pytest.raises(AnadilError) as caught:
        read_archive(path)
    assert not trace.exists()
    if kind in ("nemo", "ckpt"):
        assert "system" in str(caught.value) and "refused, because it holds more than tensors" in str(caught.value)
    torch.load(io.BytesIO(saved(evil)), weights_only=False)  # what would have happened
    assert trace.exists()


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("../evil.txt"), "'../evil.txt', a path outside"),
        (member("/etc/evil.txt"), "'/etc/evil.txt', a path outside"),
        (member("a/../../evil.txt"), "a path outside"),
        (member("..\\evil.txt"), "a path outside"),
        (member("tokenizer.model", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'tokenizer.model', a link"),
        (member("tokenizer.model", type=tarfile.LNKTYPE, linkname=CONFIG), "a link or device"),
        (member("pipe", type=tarfile.FIFOTYPE), "a link or device"),
        (member(f"./{CONFIG}"), "twice"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_an_archive_with_unsafe_members_is_refused(extra: tarfile.TarInfo, message: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "model.nemo", {CONFIG: PLAIN, WEIGHTS: WEIGHT_FILE})
    assert read_archive(path).weights["w"].tolist() == [1, 1]
    with tarfile.open(path, "a:") as tar:
        tar.addfile(extra, io.BytesIO())
    with pytest.raises(AnadilError) as caught:
        read_archive(path)
    assert message in str(caught.value) and "refused" in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["model.nemo"]  # nothing was unpacked


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121)),
            "aliases",
        ),
        (b"a: &a [*a]\n", "aliases"),
        (b"a: " + b"[" * 5000, "not valid YAML"),
        (b"a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        (b"[1]", "expected `key: value` lines"),
        (b"a: \xff", "not valid YAML"),
    ],
    ids=range(6),
)
def test_a_malicious_config_is_refused(config: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match=message):
        read_archive(write_tar(tmp_path / "model.nemo", {CONFIG: config, WEIGHTS: WEIGHT_FILE}))


def test_sizes_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "model.nemo", {CONFIG: PLAIN, WEIGHTS: WEIGHT_FILE, "tokenizer.model": b"x" * 5000})
    monkeypatch.setattr("anadil.models.nemo.archive._MAX_ARTIFACT_BYTES", 4999)
    with pytest.raises(AnadilError, match=r"tokenizer\.model is 5,000 bytes, allowed are 4,999"):
        read_archive(path)
    bomb = tmp_path / "bomb.nemo"
    bomb.write_bytes(gzip.compress(write_tar(tmp_path / "t", {CONFIG: PLAIN, WEIGHTS: bytes(10**7)}).read_bytes()))
    with pytest.raises(AnadilError, match="no model|grows to more than 50 times"):
        read_archive(bomb)
    zipped = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(WEIGHT_FILE)) as source,
        zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    monkeypatch.undo()
    with pytest.raises(AnadilError, match="compressed tensors"):
        read_archive(write_tar(tmp_path / "z.nemo", {CONFIG: PLAIN, WEIGHTS: zipped.getvalue()}))


@pytest.mark.parametrize("how", ["gzip", "folder", "hash before the name", "a name without .nemo"])
def test_archives_of_older_versions_are_read(how: str, tmp_path: Path) -> None:
    before = {"folder": "QuartzNet/", "hash before the name": "0123abcd_"}.get(how, "")
    content = {f"./{before}{CONFIG}": PLAIN, f"./{before}{WEIGHTS}": WEIGHT_FILE, "./0f_tokenizer.model": b"t"}
    path = write_tar(tmp_path / "some.file", content, "w:gz" if how == "gzip" else "w:")
    assert archive_kind(path) == "nemo"
    archive = read_archive(path)
    assert archive.config == {"encoder": {"a": 1}} and archive.artifacts == {"0f_tokenizer.model": b"t"}


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", gzip.compress(b"text", mtime=0), b"\x1f\x8b cut"])
def test_other_files_are_no_archives(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.nemo").write_bytes(content)
    assert archive_kind(tmp_path / "x.nemo") is None
    with pytest.raises(AnadilError, match=r"x\.nemo"):
        read_archive(tmp_path / "x.nemo")


def test_a_cut_archive_is_an_error(tmp_path: Path) -> None:
    path = write_case(tmp_path / "m.nemo", "striding")
    whole = path.read_bytes()
    for share in (0.1, 0.3, 0.6):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(AnadilError, match=r"m\.nemo"):
            read_nemo(path)


def test_a_lightning_checkpoint_is_the_same_model(tmp_path: Path) -> None:
    case = golden()[0]["citrinet"]
    state = {name: weight(name, tuple(shape)) for name, shape in case["weights"].items()}
    path = tmp_path / "last.ckpt"
    torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": {"cfg": case["config"]}, "loops": {}}, path)
    found = read_nemo(path).loaded
    same = read_nemo(write_case(tmp_path / "m.nemo", "citrinet")).loaded
    assert found.rules == same.rules
    for name, tensor in same.acoustic.network.state_dict().items():
        assert torch.equal(found.acoustic.network.state_dict()[name], tensor)
    torch.save({"state_dict": state}, path)
    with pytest.raises(AnadilError, match="--config"):
        read_nemo(path)
    (tmp_path / "hparams.yaml").write_text(__import__("yaml").safe_dump({"cfg": case["config"]}, allow_unicode=True))
    assert read_nemo(path, config_file=tmp_path / "hparams.yaml").loaded.rules == same.rules


def test_omegaconfs_objects_in_a_checkpoint_are_read_without_omegaconf() -> None:
    archive = read_archive(Path(__file__).parent / "lightning.ckpt")
    assert archive.kind == "ckpt" and archive.config["encoder"]["jasper"][0]["kernel"] == [3]
    assert archive.config["labels"] == [" ", "a", "ş"]
    optim = archive.config["optim"]
    assert optim["betas"] == [0.8, 0.5] and optim["sched"]["name"] == "CosineAnnealing" and optim["lr"] == 0.01
    assert read_nemo(archive.path).loaded.rules.labels == (" ", "a", "ş")


@pytest.mark.parametrize("name", ["model.nemo", "lightning.ckpt"])
def test_damage_anywhere_is_an_error_or_harmless(name: str, tmp_path: Path) -> None:
    case, checkpoint = golden()[0]["no mask"], Path(__file__).parent / "lightning.ckpt"
    weights = {one: weight(one, tuple(shape)) for one, shape in case["weights"].items()}
    path = write_archive(tmp_path / "whole", case["config"], weights)
    whole = path.read_bytes() if name == "model.nemo" else checkpoint.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: rng.randrange(len(whole)) if rng.random() < 0.2 else len(whole)])
        for _ in range(rng.choice((1, 5, 30))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            read_nemo(tmp_path / name)
        except AnadilError as error:
            refused += 1
            assert name in str(error)
    assert refused > 20
