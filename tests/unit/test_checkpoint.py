"""Checkpoints: whole or absent, verified, refused with both sums, never unpickled."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.catalogue import GATINGS, MODELS, train_config
from vae_models.config.train import TrainConfig
from vae_models.measures import Goal
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training import checkpoint
from vae_models.training.checkpoint import CorruptCheckpoint, IncompatibleCheckpoint, Manifest
from vae_models.training.context import LocalContext
from vae_models.training.errors import Fenced, NoRoom, TrainingError

CONFIG = TrainConfig.model_validate(
    {"data": {"name": "digits"}, "steps": 3, "model": {"latent": 2, "backbone": {"kind": "mlp", "hidden": [5]}}}
)
NAMES = {"model.safetensors", "training.safetensors", "state.json", "config.json", "manifest.json"}


def _model() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CONFIG.model.build((1, 8, 8))


def _write(directory: Path, step: int = 3, **metrics: float) -> Manifest:
    return checkpoint.write(
        directory,
        step=step,
        config=CONFIG,
        model=_model().state_dict(),
        training={"optimizer/step/x": torch.tensor(3.0), "window/rows": torch.zeros(0, 4)},
        state={"data_shape": [1, 8, 8], "position": {}},
        metrics=metrics,
    )


def test_written_read_and_loaded(tmp_path: Path) -> None:
    manifest = _write(tmp_path / "c", **{"val/elbo": -1.5, "val/rate": float("nan")})
    assert {path.name for path in (tmp_path / "c").iterdir()} == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["c"]  # nothing half-done is left
    assert checkpoint.verify(tmp_path / "c") == manifest
    assert manifest.metrics == {"val/elbo": -1.5}  # what is not finite is left out
    written = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert (written["format"], written["step"]) == (1, 3)
    assert set(written["files"]) == NAMES - {"manifest.json"}
    snapshot = checkpoint.read(tmp_path / "c")
    assert snapshot.config == CONFIG
    assert snapshot.training["window/rows"].shape == (0, 4)
    before = torch.random.get_rng_state()
    model, config = checkpoint.load_model(tmp_path / "c")
    assert torch.equal(before, torch.random.get_rng_state())
    assert config == CONFIG
    assert not model.training
    for name, value in _model().state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize("name", [*GATINGS, *MODELS])
def test_every_model_comes_back(tmp_path: Path, name: str) -> None:
    """Also where gates share a layer: one tensor under several names."""
    if name in GATINGS:
        gating, backbone, shape = GATINGS[name]
        model_config, beta = ModelConfig(latent=2, backbone=backbone, gating=gating), {"kind": "log-uniform"}
    else:
        model_config, shape = MODELS[name]
        beta = {"kind": "constant"}
    objective = "ae" if model_config.posterior.kind == "delta" else "elbo"
    config = train_config(objective, model_config, data="celeba" if shape[1] == 64 else "mnist", beta=beta)
    model = model_config.build(shape)
    state = {"data_shape": list(shape), "position": {}}
    checkpoint.write(
        tmp_path / "c", step=1, config=config, model=model.state_dict(), training={}, state=state, metrics={}
    )
    loaded, found = checkpoint.load_model(tmp_path / "c")
    assert found == config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_the_manifest_is_written_last(tmp_path: Path) -> None:
    _write(tmp_path / "c")
    times = {name: (tmp_path / "c" / name).stat().st_mtime_ns for name in NAMES}
    assert max(times, key=lambda name: times[name]) == "manifest.json"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flip, _truncate, Path.unlink])
@pytest.mark.parametrize("name", sorted(NAMES - {"manifest.json"}))
def test_damage_is_found_and_both_sums_are_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    promised = _write(tmp_path / "c").files[name]
    path = tmp_path / "c" / name
    damage(path)
    with pytest.raises(CorruptCheckpoint) as caught:
        checkpoint.verify(tmp_path / "c")
    assert str(path) in str(caught.value)
    if path.exists():
        found = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert found in str(caught.value)
        assert promised.sha256 in str(caught.value)
    else:
        assert "is missing" in str(caught.value)
    with pytest.raises(CorruptCheckpoint):
        checkpoint.load_model(tmp_path / "c")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, CorruptCheckpoint, "has no manifest.json"),
        ('{"format": 1, "st', CorruptCheckpoint, "is not JSON"),
        ("[]", IncompatibleCheckpoint, "format None; this version reads format 1"),
        ('{"format": 0, "step": 1}', IncompatibleCheckpoint, "format 0; this version reads format 1"),
        ('{"format": 2, "step": 1}', IncompatibleCheckpoint, "format 2; this version reads format 1"),
        ('{"format": 1, "step": 1, "files": {}}', CorruptCheckpoint, "is damaged"),
        ('{"format": 1, "step": 1, "files": {}, "metrics": {}}', CorruptCheckpoint, "it must list"),
        (
            '{"format": 1, "step": 1, "files": {"../x": {"sha256": "", "bytes": 0}}, "metrics": {}}',
            CorruptCheckpoint,
            "it must list",
        ),
        ('{"format": 1, "step": 1, "files": {"a": {"sum": ""}}, "metrics": {}}', CorruptCheckpoint, "is damaged"),
    ],
)  # fmt: skip
def test_manifests_that_are_refused(tmp_path: Path, content: str | None, error: type[Exception], message: str) -> None:
    _write(tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(error, match=message):
        checkpoint.verify(tmp_path / "c")


def test_config_of_another_version(tmp_path: Path) -> None:
    _write(tmp_path / "c")
    path = tmp_path / "c" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "novelty": 1}))
    with pytest.raises(IncompatibleCheckpoint, match="novelty"):
        checkpoint.read(tmp_path / "c")


FULL_DISK = """
import sys, torch
from pathlib import Path
from vae_models.config.train import TrainConfig
from vae_models.measures import Goal
from vae_models.training import checkpoint
from vae_models.training.errors import NoRoom
{limit}
config = TrainConfig.model_validate({{"data": {{"name": "digits"}}, "steps": 1}})
def write(directory, size):
    checkpoint.write(directory, step=1, config=config, model={{"w": torch.zeros(size)}},
                     training={{"m": torch.zeros(9)}}, state={{"data_shape": [1, 8, 8]}}, metrics={{}})
folder = Path(sys.argv[1])
write(folder / "first", 1000)
try:
    write(folder / "second", 1_000_000)
except NoRoom as error:
    print(error)
else:
    print("written")
checkpoint.verify(folder / "first")
print(sorted(path.name for path in folder.iterdir()))
"""
LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
"""


def _in_a_process(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check_full(output: str, folder: Path) -> None:
    message, names = output.strip().splitlines()
    assert message.startswith(f"no room for {folder / 'second'}: ")
    assert "MiB free" in message
    assert "The last checkpoint is untouched" in message
    assert names == "['first']"


def test_file_size_limit_is_a_clear_error_and_leaves_the_previous(tmp_path: Path) -> None:
    _check_full(_in_a_process(FULL_DISK.format(limit=LIMITED), tmp_path), tmp_path)


def test_full_disk_is_a_clear_error_and_leaves_the_previous(tmp_path: Path) -> None:
    """On a real file system of 2 MiB."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        _check_full(_in_a_process(FULL_DISK.format(limit=""), small), small)
    finally:
        subprocess.run(["umount", small], check=True)


def test_other_failures_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.write(
            tmp_path / "c", step=1, config=CONFIG, model={}, training={}, state={"loss": float("nan")}, metrics={}
        )
    assert list(tmp_path.iterdir()) == []


def test_killed_while_writing_leaves_no_checkpoint(tmp_path: Path) -> None:
    """Killed at the rename's door: what is there is hidden and incomplete by name, and the next start removes it."""
    script = textwrap.dedent("""
        import os, sys, signal, torch
        from pathlib import Path
        from vae_models.config.train import TrainConfig
        from vae_models.training import checkpoint
        def killed(path):
            os.kill(os.getpid(), signal.SIGKILL)
        checkpoint._sum = killed
        config = TrainConfig.model_validate({"data": {"name": "digits"}, "steps": 1})
        checkpoint.write(Path(sys.argv[1]) / "step-0000000001", step=1, config=config, model={"w": torch.zeros(9)},
                         training={}, state={"data_shape": [1, 8, 8]}, metrics={})
    """)
    context = LocalContext(tmp_path)
    done = subprocess.run([sys.executable, "-c", script, str(context.checkpoints)], timeout=120, check=False)
    assert done.returncode == -9
    assert list(context.checkpoints.iterdir()) != []
    assert context.latest_checkpoint() is None
    assert list(context.checkpoints.iterdir()) == []


# --- the local context ----------------------------------------------------------------------------------------------


def _save(context: LocalContext, step: int, **metrics: float) -> None:
    directory = context.scratch / f".new-{step}"
    _write(directory, step, **metrics)
    context.save_checkpoint(step, directory, metrics)


def _steps(context: LocalContext) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in context.checkpoints.iterdir())


@pytest.mark.parametrize(("metric", "kept"), [("val/elbo", [20, 50, 60]), ("val/distortion", [30, 50, 60])])
def test_fault_07_the_best_and_the_last_are_kept(tmp_path: Path, metric: str, kept: list[int]) -> None:
    context = LocalContext(tmp_path, goal=Goal.of(metric))
    for step, value in ((10, -5.0), (20, -1.0), (30, -9.0), (40, -3.0)):
        _save(context, step, **{metric: value})
    _save(context, 50)  # between evaluations: no metric, never the best
    _save(context, 60)
    assert _steps(context) == kept


def test_a_checkpoint_of_the_same_step_replaces_the_old_one(tmp_path: Path) -> None:
    context = LocalContext(tmp_path)
    _save(context, 10)
    _save(context, 10, **{"val/elbo": -2.0})
    assert _steps(context) == [10]
    found = context.latest_checkpoint()
    assert found is not None
    assert checkpoint.verify(found).metrics == {"val/elbo": -2.0}


def test_falls_back_past_damaged_checkpoints_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    context = LocalContext(tmp_path, keep_last=3, say=said.append)
    for step in (10, 20, 30):
        _save(context, step)
        context.log_metrics(step, {"train/loss": float(step)})
    context.metrics_file.open("a").write('{"step": 31, "metr')  # the line being written when the process was killed
    _flip(context.checkpoints / "step-0000000030" / "model.safetensors")
    (context.checkpoints / "step-0000000020" / "manifest.json").unlink()
    assert context.latest_checkpoint() == context.checkpoints / "step-0000000010"
    assert len(said) == 2
    assert "step-0000000030" in said[0]
    assert "SHA-256" in said[0]
    assert "step-0000000020" in said[1]
    assert [json.loads(line)["step"] for line in context.metrics_file.read_text().splitlines()] == [10]


def test_metrics_that_are_not_finite_are_null(tmp_path: Path) -> None:
    context = LocalContext(tmp_path)
    context.log_metrics(1, {"val/elbo": float("nan"), "val/rate": 2.0})
    assert json.loads(context.metrics_file.read_text()) == {"step": 1, "metrics": {"val/elbo": None, "val/rate": 2.0}}


def test_errors_are_one_tree() -> None:
    assert issubclass(Fenced, TrainingError)
    assert issubclass(NoRoom, TrainingError)
