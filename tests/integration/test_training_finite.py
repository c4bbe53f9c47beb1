"""A number that is not finite ends the run, wherever it arises: named, nothing stale given, the last good one kept."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tuning.pack import outcome
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.lanes import train_pack
from vae_models.training.loop import Run, train

NET = {"kind": "mlp", "hidden": [6]}
TRAINED = {
    "latent": 2, "backbone": NET, "likelihood": {"kind": "gaussian", "fit": "trained", "softclip": None},
    "posterior": {"kind": "isotropic-normal", "fit": "fixed"},
}  # fmt: skip
AUTOENCODER = {"latent": 2, "backbone": NET, "likelihood": {"kind": "gaussian"}, "posterior": {"kind": "delta"}}
COLLAPSING = {"optimizer": {"lr": 100.0}}  # one step, and sigma is e^-100


def config(**fields: Any) -> TrainConfig:
    """24 data, 3 steps an epoch; an evaluation after every step."""
    return TrainConfig.model_validate(
        {
            "data": {"name": "digits"}, "model": TRAINED, "batch_size": 8, "steps": 30, "log_every_steps": 5,
            "evaluation": {"every_epochs": 0.3, "batch_size": 4, "pictures": False},
            "checkpoint": {"every_steps": 1}, **fields,
        }
    )  # fmt: skip


def dataset(**bad: int) -> Dataset:
    """bad: of a split by its name the datum with a NaN."""
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    splits = dict(zip(("train", "val", "test"), x.split([24, 8, 8]), strict=True))
    for name, datum in bad.items():
        splits[name][datum, 0, 3, 3] = math.nan
    return Dataset(name="digits", shape=(1, 8, 8), **{name: Split(x=images) for name, images in splits.items()})


def logged(folder: Path, name: str) -> dict[int, float | None]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"][name] for line in lines if name in line["metrics"]}


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def test_fault_14_a_collapsed_variance_is_named_by_the_evaluation_that_finds_it(tmp_path: Path) -> None:
    """Four good steps, then one whose loss is finite and whose weights are: only the evaluation after it sees."""
    run = Run(config(), LocalContext(tmp_path), dataset())
    run.begin()
    for _ in range(4):
        run.step()
        run.after_step()
    run.lr = lambda step: 100.0  # type: ignore[assignment]
    run.step()
    said = r"^val/\w+ is (nan|-?inf) at step 5, whose batch of 4 has the validation data 0, 1, 2, 3\."
    with pytest.raises(NonFiniteLoss, match=said) as caught:
        run.after_step()
    error = caught.value
    assert (error.split, error.kept, error.data) == ("validation", error.step - 1, (0, 1, 2, 3))
    assert f"The last checkpoint, of step {error.kept}, was written before that and is kept." in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as a process pool or Ray does
    elbos = logged(tmp_path, "val/elbo")
    assert list(elbos) == list(range(1, error.step))  # of the bad step nothing is reported
    assert all(value is not None and math.isfinite(value) for value in elbos.values())
    assert steps(tmp_path)[-1] == error.step - 1
    for path in (tmp_path / "checkpoints").iterdir():
        assert all(math.isfinite(value) for value in checkpoint.verify(path).metrics.values())
        assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.read(path).training.values())


@pytest.mark.parametrize(("split", "metric", "name"), [("val", "val", "validation"), ("test", "test", "test")])
def test_fault_14_an_evaluation_of_data_that_are_not_finite_says_so(
    tmp_path: Path, split: str, metric: str, name: str
) -> None:
    """`train` looks at the data first; whoever brings them past it is told by the loop."""
    short = config(steps=3, model=AUTOENCODER | {"posterior": {"kind": "diagonal-normal"}})
    step = 1 if split == "val" else 3
    said = (
        rf"^{metric}/elbo is nan at step {step}, whose batch of 4 has the {name} data 4, 5, 6, 7. .*"
        rf"The {name} data 6 are not finite themselves: take them out, or mend them.$"
    )
    with pytest.raises(NonFiniteLoss, match=said) as caught:
        Run(short, LocalContext(tmp_path), dataset(**{split: 6})).run()
    assert "optimizer.lr" not in str(caught.value)
    assert steps(tmp_path) == ([] if split == "val" else [1, 2])


def test_fault_13a_a_loss_of_data_that_are_not_finite_names_the_datum(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match="The training data 11 are not finite themselves") as caught:
        Run(config(), LocalContext(tmp_path), dataset(train=11)).run()
    assert 11 in caught.value.data
    assert "optimizer.lr" not in str(caught.value)


def test_fault_13a_where_no_checkpoint_was_written_none_is_promised(tmp_path: Path) -> None:
    late = {"optimizer": {"lr": 1e30}, "checkpoint": {"every_steps": 50}, "evaluation": {"every_epochs": 2}}
    with pytest.raises(NonFiniteLoss, match=r"at step 2, .* No checkpoint was written before that") as caught:
        train(config(**late), LocalContext(tmp_path), dataset=dataset())
    assert "is kept" not in str(caught.value)
    assert "A smaller optimizer.lr" in str(caught.value)
    assert steps(tmp_path) == []


@pytest.mark.parametrize(
    ("fields", "term"),
    [
        ({"log_every_steps": 2}, "train/grad_norm is inf at step 2, whose batch of 8"),
        ({"log_every_steps": 50}, "an element of the optimizer's exp_avg_sq/[a-z0-9._]+ is inf at step [23]"),
    ],
)
def test_fault_14_an_infinite_gradient_ends_the_run_and_is_never_saved(
    tmp_path: Path, fields: Mapping[str, Any], term: str
) -> None:
    """RAE at lr 1e3: losses of 1e30 are finite, their gradient's square is not, and Adam would stand still for ever."""
    diverging = config(
        model=AUTOENCODER, objective={"kind": "rae"}, optimizer={"lr": 1e3},
        checkpoint={"every_steps": 1, "metric": "val/distortion"}, **fields,
    )  # fmt: skip
    with pytest.raises(NonFiniteLoss, match=f"^{term}") as caught:
        train(diverging, LocalContext(tmp_path), dataset=dataset())
    assert steps(tmp_path)[-1] == caught.value.kept == caught.value.step - 1
    for path in (tmp_path / "checkpoints").iterdir():
        assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.read(path).training.values())


@pytest.mark.parametrize("part", ["the optimizer's exp_avg", "the controller's average"])
def test_fault_14_no_part_of_the_state_is_saved_that_is_not_finite(tmp_path: Path, part: str) -> None:
    run = Run(config(beta={"kind": "geco", "kappa": 0.3}), LocalContext(tmp_path), dataset())
    run.begin()
    for _ in range(2):
        run.step()
        run.after_step()
    run.step()
    state = run.optimizer.state[run.parameters[0]]["exp_avg"] if "optimizer" in part else run.control["average"]
    state.view(-1)[0] = math.inf
    with pytest.raises(NonFiniteLoss, match=rf"an element of {part}\S* is inf at step 3\."):
        run.after_step()
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("width", [1, 2])
def test_fault_14_a_lane_whose_evaluation_is_not_finite_fails_alone_and_cannot_win(tmp_path: Path, width: int) -> None:
    configs = [config(steps=20, **fields) for fields in ({}, COLLAPSING)]
    contexts = [LocalContext(tmp_path / str(number)) for number in range(2)]
    good, bad = train_pack(configs, contexts, dataset=dataset(), width=width)
    assert outcome(good, "val/elbo", stopping=False).state == "done"
    failed = outcome(bad, "val/elbo", stopping=False)
    assert (failed.state, failed.value) == ("failed", None)
    assert failed.error is not None
    assert "val/" in failed.error


def test_fault_17_an_evaluation_of_the_training_split_names_its_data(tmp_path: Path) -> None:
    """`train_eval` is where the numbers are; the data are the training split's, by their own indices."""
    fields = {"every_epochs": 100, "batch_size": 4, "pictures": False, "test": False, "train": True}
    given = dataset()
    run = Run(config(steps=2, evaluation=fields), LocalContext(tmp_path), given)
    run.begin()
    run.step()
    run.after_step()
    run.step()
    given.train.x[5] = math.nan  # after the last step that read it
    with pytest.raises(
        NonFiniteLoss, match=r"^train_eval/\w+ is nan at step 2.* the training data 4, 5, 6, 7\."
    ) as caught:
        run.after_step()
    assert caught.value.split == "training"
    assert caught.value.unfit == (5,)
