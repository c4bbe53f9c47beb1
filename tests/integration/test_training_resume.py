"""The loop through a folder: interrupted anywhere and resumed equals uninterrupted; failures keep what there was."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from tests import command, sentences, videos
from tests.golden.recipes import generated
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.records import Progress
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.errors import Fenced, IncompatibleCheckpoint, NonFiniteLoss, NoRoom
from vae_models.training.loop import Result, train

STEPS = 23  # no multiple of anything below
MLP = {"kind": "mlp", "hidden": [12]}
CNN = {"kind": "conv", "channels": [2, 3, 4, 4]}
NVAE = {
    "model": {"kind": "nvae", "channels": 4, "latent": 2, "groups": 1, "block_cells": 1, "encoder_cells": 1},
    "objective": {"kind": "ladder-elbo"},
    "optimizer": {"kind": "adamax", "lr": 0.01},
}


def _config(backbone: Mapping[str, Any] = MLP, **fields: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"name": "mnist", "binarize": "dynamic"},
            "model": {"latent": 2, "backbone": backbone},
            "beta": {"kind": "warmup", "epochs": 3},
            "optimizer": {"lr": 0.01, "clip_norm": 50.0},
            "schedule": {"kind": "cosine", "warmup_epochs": 0.7},
            "batch_size": 8,
            "steps": STEPS,
            "log_every_steps": 5,
            "evaluation": {"every_epochs": 1.5, "batch_size": 4, "pictures": False},
            "checkpoint": {"every_steps": 4},
        }
        | fields
    )


PLATEAU = {"schedule": {"kind": "plateau", "patience_epochs": 1, "factor": 0.1}, "optimizer": {"lr": 0.3}}
TEXT = {
    "data": sentences.config((31, 10, 9), buckets=True),
    "model": {"kind": "text", "latent": 2, "embedding": 3, "hidden": 4, "word_dropout": 0.2},
}
CONFIGS = {
    "mlp": _config(), "cnn": _config(CNN), "nvae": _config(**NVAE), "plateau": _config(**PLATEAU),
    "text": _config(**TEXT), "video": _config(data=videos.data(), model=dict(videos.MODEL)),
}  # fmt: skip


def _dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (50, 1, 7, 7), generator=generator, dtype=torch.uint8)
    images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    parts = [Split(x=part) for part in images.split([31, 10, 9])]
    return Dataset(name="mnist", train=parts[0], val=parts[1], test=parts[2], shape=(1, 28, 28))


DATASET, SENTENCES, VIDEOS = _dataset(), sentences.dataset((31, 10, 9)), videos.dataset()


def _stop_after(asks: int) -> Callable[[], bool]:
    left = [asks]

    def stop() -> bool:
        left[0] -= 1
        return left[0] <= 0

    return stop


def _train(config: TrainConfig, folder: Path, **fields: Any) -> Result:
    dataset = SENTENCES if config.data.facts.support == "tokens" else DATASET
    dataset = VIDEOS if config.model.kind == "video" else dataset
    return train(config, LocalContext(folder, **fields), dataset=dataset, poll_seconds=0)  # asks after every step


def _outcome(folder: Path) -> tuple[dict[str, str], list[Any], dict[str, Any]]:
    """Sums of all tensors at the end, everything that was logged, the loop's state: but for what a clock measured."""
    last = folder / "checkpoints" / f"step-{STEPS:010d}"
    sums = {n: f.sha256 for n, f in checkpoint.verify(last).files.items() if n.endswith(".safetensors")}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    state = dict(checkpoint.read(last).state)
    for metrics in [line["metrics"] for line in lines] + [state["position"]["latest"]]:
        metrics.pop("images_per_second", None)
    return sums, lines, state


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, config in CONFIGS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        result = _train(config, folders[name])
        assert (result.steps, result.stopped) == (STEPS, False)
    return folders


@pytest.mark.parametrize(
    ("net", "asks"),
    [("mlp", asks) for asks in (1, 2, 4, 5, 6, 7, 8, 9, 10, 13, 19, 28, 31, 32, 33, 34, 35, 36, 37, 38)]
    + [("cnn", asks) for asks in (1, 7, 11, 34)]
    + [("nvae", 9), ("video", 9), ("plateau", 13), ("plateau", 34), ("text", 11)],
)
def test_stopped_once_and_resumed(uninterrupted: dict[str, Path], tmp_path: Path, net: str, asks: int) -> None:
    """After any step, in mid-evaluation, and within the last one (steps and rounds of evaluation both ask)."""
    config = CONFIGS[net]
    first = _train(config, tmp_path, stop=_stop_after(asks))
    assert first.stopped
    second = _train(config, tmp_path)
    assert (second.steps, second.stopped) == (STEPS, False)
    assert _outcome(tmp_path) == _outcome(uninterrupted[net])


def test_asks_cover_steps_and_evaluations(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    """What the numbers above stand for: 23 steps, 4 evaluations on val of 3 rounds, one on test of 3 rounds."""
    count = [0]

    def stop() -> bool:
        count[0] += 1
        return False

    _train(_config(), tmp_path, stop=stop)
    assert count[0] == 23 + 4 * 3 + 3


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_stopped_again_and_again(
    uninterrupted: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("again")
    runs = 0
    while _train(_config(), folder, stop=_stop_after(data.draw(st.integers(7, 20)))).stopped:
        runs += 1
        assert runs < 20
    assert _outcome(folder) == _outcome(uninterrupted["mlp"])


class _PowerCutError(Exception):
    pass


@pytest.mark.parametrize("step", [3, 5, 8, 10, 12, 18, 23])
def test_cut_off_without_a_checkpoint(uninterrupted: dict[str, Path], tmp_path: Path, step: int) -> None:
    """As by kill -9: the run goes on from the last checkpoint, or from the start, and repeats what came after it."""

    def cut(progress: Progress) -> None:
        if progress.step == step:
            raise _PowerCutError

    with pytest.raises(_PowerCutError):
        _train(_config(CNN), tmp_path, on_progress=cut)
    _train(_config(CNN), tmp_path)
    assert _outcome(tmp_path) == _outcome(uninterrupted["cnn"])


def test_killed_in_another_process_and_resumed_here(tmp_path: Path) -> None:
    """A real kill -9 of a real process, on the digits, at a moment that nobody chose."""
    config = _config(
        data={"name": "digits"},
        steps=400,
        checkpoint={"every_steps": 20},
        evaluation={"every_epochs": 0.5, "pictures": False},
    )
    script = (
        "import sys, torch; from pathlib import Path; from vae_models.config.train import TrainConfig;"
        "from vae_models.training.context import LocalContext; from vae_models.training.loop import train;"
        f"torch.set_num_threads({torch.get_num_threads()});"
        "train(TrainConfig.model_validate_json(sys.argv[1]), LocalContext(Path(sys.argv[2])))"
    )
    folder = tmp_path / "cut"
    process = command.python(script, config.model_dump_json(), str(folder))
    deadline = time.monotonic() + 120
    while not any((folder / "checkpoints").glob("step-00000001??")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    def end(folder: Path) -> dict[str, str]:
        train(config, LocalContext(folder))
        manifest = checkpoint.verify(folder / "checkpoints" / "step-0000000400")
        return {name: file.sha256 for name, file in manifest.files.items() if name.endswith(".safetensors")}

    assert end(folder) == end(tmp_path / "whole")


def test_damaged_last_checkpoint(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    assert _train(_config(), tmp_path, stop=_stop_after(20)).stopped
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1] / "training.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5] + b"wrong")
    _train(_config(), tmp_path, say=said.append)
    assert len(said) == 1
    assert "training.safetensors is not what was written" in said[0]
    assert _outcome(tmp_path) == _outcome(uninterrupted["mlp"])


def test_a_finished_run_does_nothing_again(uninterrupted: dict[str, Path]) -> None:
    before = _outcome(uninterrupted["mlp"])
    steps: list[int] = []
    result = _train(_config(), uninterrupted["mlp"], on_progress=lambda progress: steps.append(progress.step))
    assert (result.steps, result.stopped, steps) == (STEPS, False, [STEPS])
    assert {"test/elbo", "val/elbo", "train/loss", "epoch", "images_per_second"} <= set(result.metrics)
    assert _outcome(uninterrupted["mlp"]) == before


def test_a_folder_of_another_config_is_refused(uninterrupted: dict[str, Path]) -> None:
    with pytest.raises(IncompatibleCheckpoint, match="batch_size: 8 there, 9 here"):
        _train(_config(batch_size=9), uninterrupted["mlp"])


def test_the_end_has_everything(tmp_path: Path) -> None:
    config = _config(evaluation={"every_epochs": 100, "batch_size": 4}, steps=3)
    result = _train(config, tmp_path)
    manifest = checkpoint.verify(tmp_path / "checkpoints" / "step-0000000003")
    assert {f"{split}/{name}" for split in ("val", "test") for name in ("elbo", "rate", "distortion")} <= set(
        manifest.metrics
    )
    assert all(result.metrics[name] == value for name, value in manifest.metrics.items())
    assert result.metrics["val/elbo"] == pytest.approx(-result.metrics["val/rate"] - result.metrics["val/distortion"])
    for name in ("reconstructions", "samples", "draws"):
        png = (tmp_path / "pictures" / f"{name}-0000000003.png").read_bytes()
        assert Image.open(io.BytesIO(png)).format == "PNG"
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_metrics_have_the_agreed_names_and_values(uninterrupted: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in (uninterrupted["mlp"] / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "train/loss" in line["metrics"]]
    assert [line["step"] for line in training] == [5, 10, 15, 20, 23]
    assert [line["step"] for line in lines if "val/elbo" in line["metrics"]] == [6, 12, 18, 23]
    assert set(training[0]["metrics"]) == {
        "train/loss", "train/elbo", "train/rate", "train/distortion", "train/squared_error", "train/beta", "train/lr",
        "train/grad_norm", "epoch", "images_per_second",
    }  # fmt: skip
    assert training[1]["metrics"]["epoch"] == pytest.approx(80 / 31)
    assert training[1]["metrics"]["train/beta"] == pytest.approx(9 / (3 * 31 / 8))
    elbo, rate, distortion = (training[2]["metrics"][f"train/{name}"] for name in ("elbo", "rate", "distortion"))
    assert elbo == pytest.approx(-(rate + distortion))


def test_best_checkpoint_carries_its_own_metric(uninterrupted: dict[str, Path]) -> None:
    folder = uninterrupted["mlp"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    by_step = {line["step"]: line["metrics"]["val/elbo"] for line in lines if "val/elbo" in line["metrics"]}
    best = max(by_step, key=lambda step: by_step[step])
    kept = {int(path.name[5:]): checkpoint.verify(path) for path in (folder / "checkpoints").iterdir()}
    assert kept[best].metrics["val/elbo"] == by_step[best]
    between = [manifest for step, manifest in kept.items() if step not in by_step]
    assert all("val/elbo" not in manifest.metrics for manifest in between)


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path, every: int) -> None:
    config = _config(
        optimizer={"lr": 1e18},
        schedule={"kind": "constant", "warmup_epochs": 0},
        beta={"kind": "constant", "value": 1.0},
        log_every_steps=10,
        checkpoint={"every_steps": every},
    )
    with pytest.raises(NonFiniteLoss, match="at step 2") as caught:
        _train(config, tmp_path)
    assert caught.value.term in {"loss", "rate", "distortion", "elbo"}
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == (["step-0000000001"] if every == 1 else [])
    for path in (tmp_path / "checkpoints").iterdir():
        model, _ = checkpoint.load_model(path)
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_parameters_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """The loss of the first step is finite; the step itself leaves the range of float32. A spec may not say as much."""
    config = _config(schedule={"kind": "constant", "warmup_epochs": 0}, checkpoint={"every_steps": 1})
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": 1e39})})
    with pytest.raises(NonFiniteLoss, match=r"an element of backbone\..* is -?(inf|nan) at step 1"):
        _train(config, tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


class _FencedContext(LocalContext):
    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        raise Fenced("a newer attempt exists")


def test_a_superseded_run_stops_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Fenced):
        train(_config(), _FencedContext(tmp_path), dataset=DATASET)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_disk_full_in_mid_run_keeps_the_last_checkpoint_and_goes_on_later(
    uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mount.stderr.decode().strip()}")
    try:

        def fill(progress: Progress) -> None:
            if progress.step == 10:
                with (small / "ballast").open("wb") as ballast:
                    while True:
                        ballast.write(b"0" * 4096)

        with pytest.raises(OSError, match="No space left"):
            _train(_config(), small, on_progress=fill)
        with pytest.raises(NoRoom, match=r"no room for .*; it goes on from there"):
            _train(_config(), small)
        (small / "ballast").unlink()
        _train(_config(), small)
        assert _outcome(small) == _outcome(uninterrupted["mlp"])
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_metric_that_is_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"checkpoint.metric 'val/fid' is not measured; allowed: \['val/elbo'"):
        _train(_config(checkpoint={"metric": "val/fid"}), tmp_path)


# --- purity and cost ------------------------------------------------------------------------------------------------


def test_seeds_decide_and_torchs_generator_has_no_say(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    torch.manual_seed(12345)
    before = torch.random.get_rng_state()
    _train(_config(), tmp_path / "same")
    assert torch.equal(before, torch.random.get_rng_state())
    assert _outcome(tmp_path / "same") == _outcome(uninterrupted["mlp"])
    _train(_config(seed=1), tmp_path / "other")
    assert _outcome(tmp_path / "other")[0] != _outcome(tmp_path / "same")[0]


class _Reads(TorchDispatchMode):
    """Counts what would make the host wait for an accelerator: values read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "_local_scalar_dense" in str(func) or (
            "_to_copy" in str(func) and kwargs.get("device") is not None
        )
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_from_the_device_between_logs(tmp_path: Path) -> None:
    counts = []
    for steps in (10, 40):
        config = _config(
            steps=steps, log_every_steps=40, checkpoint={"every_steps": 1000}, evaluation={"every_epochs": 1000}
        )
        with _Reads() as reads:
            _train(config, tmp_path / str(steps))
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


def test_progress_tells_where_the_run_is(tmp_path: Path) -> None:
    told: list[Progress] = []
    _train(_config(), tmp_path, on_progress=told.append)
    assert [p.step for p in told] == sorted(p.step for p in told)
    assert (told[0].step, told[-1].step, told[-1].total_steps) == (1, STEPS, STEPS)
    assert told[-1].seconds_left == 0
    assert told[7].epoch == pytest.approx(told[7].step * 8 / 31)
    assert told[-1].metrics["val/elbo"] < 0


def test_a_checkpoint_of_joint_angles_as_images_goes_on_to_the_bit(tmp_path: Path) -> None:
    """They were (1, 1, 50) once: what has the shape of a datum is the same numbers in the same order."""

    def config(steps: int) -> TrainConfig:
        model = {"latent": 2, "backbone": MLP, "likelihood": {"kind": "gaussian"}, "prior": {"kind": "vampprior"}}
        return _config(data={"name": "cmu-motion"}, model=model, steps=steps, schedule={"kind": "constant"})

    dataset = generated(config(6))
    train(config(6), LocalContext(tmp_path / "whole"), dataset=dataset)
    train(config(3), LocalContext(tmp_path / "parts"), dataset=dataset)
    path = tmp_path / "parts" / "checkpoints" / "step-0000000003"
    snapshot = checkpoint.read(path)
    assert snapshot.model["prior.pseudo_inputs"].shape == (500, 50)
    shutil.rmtree(path)

    def before(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        images = {name: value.reshape(500, 1, 1, 50) for name, value in tensors.items() if value.shape == (500, 50)}
        return dict(tensors) | images

    model, training = before(snapshot.model), before(snapshot.training)
    assert sum(value.shape == (500, 1, 1, 50) for value in training.values()) == 2  # Adam's moments
    state = {**snapshot.state, "data_shape": [1, 1, 50]}
    checkpoint.write(path, step=3, config=snapshot.config, model=model, training=training, state=state, metrics={})
    assert checkpoint.load_model(path)[0].prior.pseudo_inputs.shape == (500, 1, 1, 50)  # type: ignore[union-attr]
    train(config(6), LocalContext(tmp_path / "parts"), dataset=dataset)
    ends = [checkpoint.read(tmp_path / name / "checkpoints" / "step-0000000006").model for name in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
