"""Lane i of a pack gives the loss curve of configuration i trained alone: every system, at any width or in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import catalogue
from vae_models.config.shape import reason_against
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.likelihoods.gaussian import Gaussian
from vae_models.posteriors.specs import DeltaConfig
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training import lockstep
from vae_models.training.context import LocalContext
from vae_models.training.fused import Fused
from vae_models.training.lanes import Lane, Widths, train_pack
from vae_models.training.loop import train

RTOL = 1e-8
STEPS = 100
FEWER = 30  # where nothing couples the data of a batch and no layer keeps statistics; other priors and posteriors
UNCOMPARED = {"images_per_second"}


pytestmark = pytest.mark.usefixtures("shapes_unchecked")


def dataset(shape: tuple[int, ...] = (1, 2, 3), size: int = 40) -> Dataset:
    images = torch.randint(0, 256, (size, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = [Split(x=part) for part in images.split([size - 20, 10, 10])]
    return Dataset(name="mnist", train=parts[0], val=parts[1], test=parts[2], shape=shape)  # type: ignore[arg-type]


def config(objective: str, model: ModelConfig, **fields: Any) -> TrainConfig:
    """float64, three evaluations, clipped gradients, a schedule: all that a lane has for itself."""
    given: dict[str, Any] = {
        "steps": STEPS,
        "dtype": "float64",
        "optimizer": {"lr": 1e-3, "clip_norm": 10.0},
        "schedule": {"kind": "cosine", "warmup_epochs": 2},
        "log_every_steps": 10,
        "evaluation": {"every_epochs": 100, "pictures": False, "batch_size": 10},
        "checkpoint": {"metric": "val/distortion", "mode": "min", "every_steps": 1000},
    }
    return catalogue.train_config(objective, model, **({"data": "mnist"} | given | fields))


def changed(config: TrainConfig, **fields: Any) -> TrainConfig:
    plain = config.model_dump(mode="json")
    for path, value in fields.items():
        at = plain
        *parts, last = path.split("__")
        for part in parts:
            at = at[part]
        at[last] = value
    return TrainConfig.model_validate(plain)


def lanes_of(config: TrainConfig) -> list[TrainConfig]:
    """Two that differ in all that lanes may: seed, optimizer, schedule, and the numbers of beta."""
    second: dict[str, Any] = {
        "seed": 5, "optimizer__lr": 3e-3, "optimizer__clip_norm": None, "optimizer__betas": [0.8, 0.99],
        "schedule__warmup_epochs": 0.0,
    }  # fmt: skip
    if config.beta.kind == "constant" and config.objective.kind in ("elbo", "tc"):
        second["beta__value"] = 4.0
    if config.beta.kind in ("rewo", "geco", "rewo-alternative"):
        second["beta__kappa"] = 0.25
    return [config, changed(config, **second)]


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {"step": line["step"]} | {k: v for k, v in line["metrics"].items() if k not in UNCOMPARED} for line in lines
    ]


def assert_same(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.get("train/loss", 0.0) == pytest.approx(theirs.get("train/loss", 0.0), rel=RTOL)
        assert mine == pytest.approx(
            theirs, rel=1e-6, abs=1e-10
        )  # small terms of a large loss, slopes where it is flat


def contexts(folder: Path, configs: Sequence[TrainConfig]) -> list[LocalContext]:
    return [LocalContext(folder / f"lane-{number}") for number in range(len(configs))]


def check(
    configs: Sequence[TrainConfig], data: Dataset, folder: Path, width: int | None, widths: Widths | None = None
) -> list[Lane]:
    """Trains them alone and as a pack, and compares all curves."""
    for number, one in enumerate(configs):
        alone = folder / f"alone-{number}"
        if not alone.exists():
            train(one, LocalContext(alone), dataset=data)
    together = folder / f"width-{width}"
    lanes = train_pack(configs, contexts(together, configs), dataset=data, width=width, widths=widths)
    for number in range(len(configs)):
        assert_same(curve(together / f"lane-{number}"), curve(folder / f"alone-{number}"))
    return lanes


COUPLED = (
    "bernoulli/standard-normal",
    "gaussian-mle-iso/",
    "/vhp/",
)  # what other objectives than the ELBO are tried with
SYSTEMS = {
    f"{objective}/{model}": (objective, model)
    for objective in catalogue.OBJECTIVES
    for model in catalogue.MODELS
    if model.split("/")[0] == "mlp-relu" and catalogue.goes_together(objective, model)
    if objective == "elbo" or any(part in model for part in COUPLED)
}


def couples(objective: str, model: str) -> bool:
    """Whether a datum's loss depends on the rest of its batch."""
    return objective.startswith(("tc", "wae")) or "mle" in model


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system(system: str, tmp_path: Path) -> None:
    objective, model = SYSTEMS[system]
    longer = couples(objective, model) and model.endswith("standard-normal/diagonal-normal")
    configs = lanes_of(config(objective, catalogue.MODELS[model][0], steps=STEPS if longer else FEWER))
    check(configs, dataset(catalogue.MODELS[model][1]), tmp_path, 2)
    unfused = reason_against(configs[0])
    assert (unfused is not None) == ("mle-diag-datum" in system)


@pytest.mark.parametrize("backbone", [name for name in catalogue.BACKBONES if name != "mlp-relu"])
def test_every_backbone(backbone: str, tmp_path: Path) -> None:
    """Batch norm included: its running statistics are in the evaluations."""
    model, shape = catalogue.MODELS["/".join((backbone, *catalogue.DEFAULT[1:]))]
    name = {28: "mnist", 32: "cifar10", 64: "celeba"}.get(shape[1], "mnist")
    steps = 20 if shape[1] == 64 else STEPS if backbone in ("conv-28", "sigma-vae-28") else FEWER
    check(lanes_of(config("elbo", model, steps=steps, data=name)), dataset(shape), tmp_path, 2)


@pytest.mark.parametrize("backbone", ["conv-28", "resnet-28", "infogan-plain"])
def test_fault_18_the_gradient_penalty_of_convolutions(backbone: str, tmp_path: Path) -> None:
    """The second derivative of a mapped convolution lies in memory in another order than its weights."""
    net, shape = catalogue.BACKBONES[backbone]
    likelihood = catalogue.LIKELIHOODS["gaussian"]
    model = ModelConfig(latent=3, backbone=net, likelihood=likelihood, posterior=DeltaConfig())
    check(lanes_of(config("rae-gp", model, steps=8, data="mnist")), dataset(shape), tmp_path, 2)


@pytest.mark.parametrize("gating", catalogue.GATINGS)
def test_every_gating(gating: str, tmp_path: Path) -> None:
    gates, backbone, shape = catalogue.GATINGS[gating]
    model = ModelConfig(latent=3, backbone=backbone, gating=gates)
    steps = STEPS if gating in ("affine", "mlp", "batch-norm") else FEWER
    evaluation = {"every_epochs": 100, "pictures": False, "batch_size": 10, "betas": [0.1, 4.0]}
    base = config("elbo", model, steps=steps, beta={"kind": "log-uniform"}, evaluation=evaluation)
    check(lanes_of(base), dataset(shape), tmp_path, 2)


@pytest.mark.parametrize("beta", [name for name in catalogue.BETAS if name not in ("constant", "log-uniform")])
def test_every_control_of_beta(beta: str, tmp_path: Path) -> None:
    """Constraints hold in one lane and are violated in the other; held priors too."""
    model = catalogue.MODELS["mlp-relu/gaussian/standard-normal/diagonal-normal"][0]
    model = model.model_copy(update={"prior": catalogue.PRIORS["vhp"]})
    steps = STEPS if beta in ("rewo", "geco", "rewo-alternative") else FEWER  # others have no state
    check(lanes_of(config("elbo", model, steps=steps, beta=catalogue.BETAS[beta])), dataset(), tmp_path, 2)


@pytest.mark.parametrize("beta", ["warmup", "rewo"])
def test_lanes_take_one_stacked_step(beta: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with gates and the clipping of one lane: each keeps the curve of its configuration alone."""
    monkeypatch.setattr(lockstep, "SMALL", 2**62)
    model = catalogue.MODELS["mlp-relu/gaussian/standard-normal/diagonal-normal"][0]
    model = model.model_copy(update={"prior": catalogue.PRIORS["vhp"]})
    check(lanes_of(config("elbo", model, steps=FEWER, beta=catalogue.BETAS[beta])), dataset(), tmp_path, 2)


def test_lanes_of_different_optimizers_are_fused(tmp_path: Path) -> None:
    base = config("elbo", SMALL, steps=FEWER)
    other = config("elbo", SMALL, steps=FEWER, seed=5, optimizer={"kind": "sgd", "lr": 1e-4})
    widths = Widths()
    check([base, other], dataset(), tmp_path, 2, widths)
    assert not widths.reasons


SMALL = catalogue.MODELS["mlp-relu/bernoulli/standard-normal/diagonal-normal"][0]


def grid(seeds: Sequence[int], rates: Sequence[float], **fields: Any) -> list[TrainConfig]:
    base = config("elbo", SMALL, **({"steps": 60, "evaluation": {"every_epochs": 6, "pictures": False}} | fields))
    return [changed(base, seed=seed, optimizer__lr=rate) for rate in rates for seed in seeds]


@settings(max_examples=4, deadline=None)
@given(
    width=st.sampled_from([None, 1, 2, 3, 4]),
    seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=2, unique=True),
    rates=st.lists(st.floats(1e-5, 3e-2), min_size=1, max_size=3, unique=True),
    decay=st.sampled_from([0.0, 0.01]),
    clip=st.sampled_from([None, 0.5]),
)
def test_any_grid_at_any_width(
    width: int | None, seeds: list[int], rates: list[float], decay: float, clip: float | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    configs = grid(seeds, rates, optimizer={"lr": 1e-3, "weight_decay": decay, "clip_norm": clip})
    check(configs, dataset(), tmp_path_factory.mktemp("grid"), width)


def test_measures_how_many_to_fuse_and_says_so(tmp_path: Path) -> None:
    # long enough until the first evaluation, where trying ends, for every width
    configs = grid([0], [1e-3] * 5, evaluation={"every_epochs": 12, "pictures": False})
    widths = Widths()
    train_pack(configs, contexts(tmp_path, configs), dataset=dataset(), widths=widths)
    assert list(widths.seconds) == [1, 2, 4, 5]
    assert widths.chosen == min(widths.seconds, key=lambda width: widths.seconds[width])


def test_what_else_computes_on_the_machine_does_not_choose_the_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that waits for its turn on the processor is not taken for a slow one, where one thread computes."""
    waited, step = 0.2, Fused.step

    def delayed(fused: Fused) -> None:
        time.sleep(waited)
        step(fused)

    monkeypatch.setattr(Fused, "step", delayed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        configs = grid([0], [1e-3] * 2, steps=12, evaluation={"every_epochs": 12, "pictures": False})
        widths = Widths()
        train_pack(configs, contexts(tmp_path, configs), dataset=dataset(), widths=widths)
    finally:
        torch.set_num_threads(threads)
    assert 0 < widths.seconds[2] < waited


def test_as_many_are_fused_as_there_is_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What four lanes would take is known from two: they are not tried, and the reason has the numbers."""
    configs = grid([0], [1e-3] * 5, evaluation={"every_epochs": 12, "pictures": False})
    widths = Widths()
    train_pack(configs, contexts(tmp_path / "all", configs), dataset=dataset(), widths=widths)
    of_two = widths.bytes[2]
    assert 1.5 * of_two < widths.bytes[4] < 2.5 * of_two
    monkeypatch.setattr("vae_models.training.lanes.free_bytes", lambda device: int(3 * of_two))
    few = Widths()
    train_pack(configs, contexts(tmp_path / "few", configs), dataset=dataset(), widths=few)
    assert list(few.seconds) == [1, 2]
    assert "a step of 4 lanes takes about" in few.reasons[4]
    for number in range(len(configs)):
        assert_same(curve(tmp_path / f"few/lane-{number}"), curve(tmp_path / f"all/lane-{number}"))


def test_lanes_that_are_stopped_leave_the_others_as_they_were(tmp_path: Path) -> None:
    """Successive halving: after each evaluation the worse half stops, with a checkpoint, and goes on when asked to."""
    configs = grid([0, 1], [1e-4, 1e-3, 1e-2])
    asked: list[tuple[int, list[int]]] = []

    def halve(step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        asked.append((step, sorted(metrics)))
        worst_first = sorted(metrics, key=lambda lane: metrics[lane]["val/elbo"])
        return worst_first[: len(metrics) // 2] if step < 40 else []

    check(configs, dataset(), tmp_path / "whole", 1)
    folders = contexts(tmp_path / "halved", configs)
    lanes = train_pack(configs, folders, dataset=dataset(), width=6, decide=halve)
    assert [(step, len(left)) for step, left in asked] == [(20, 6), (40, 3)]
    stopped = [number for number, lane in enumerate(lanes) if lane.result is not None and lane.result.stopped]
    assert len(stopped) == 3
    for number, folder in enumerate(folders):
        expected = curve(tmp_path / "whole" / f"alone-{number}")
        assert_same(curve(folder.directory), [line for line in expected if number not in stopped or line["step"] <= 20])
    again = [configs[number] for number in stopped]
    lanes = train_pack(again, [folders[number] for number in stopped], dataset=dataset(), width=2)
    for number in stopped:
        assert_same(curve(folders[number].directory), curve(tmp_path / "whole" / f"alone-{number}"))


def test_killed_at_any_step_a_pack_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    configs = grid([0, 1], [1e-3], checkpoint={"every_steps": 7, "metric": "val/elbo"})

    class KilledError(Exception):
        pass

    class Mortal(LocalContext):
        def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
            if step == 40:
                raise KilledError
            super().log_metrics(step, metrics)

    for number, one in enumerate(configs):
        train(one, LocalContext(tmp_path / f"alone-{number}"), dataset=dataset())
    folders = [Mortal(tmp_path / f"lane-{number}") for number in range(2)]
    with pytest.raises(KilledError):
        train_pack(configs, folders, dataset=dataset(), width=2)
    train_pack(configs, contexts(tmp_path, configs), dataset=dataset(), width=2)
    for number in range(2):
        assert_same(curve(tmp_path / f"lane-{number}"), curve(tmp_path / f"alone-{number}"))


def test_a_lane_that_diverges_ends_alone(tmp_path: Path) -> None:
    configs = grid([0], [1e-3, 1e30, 1e-2])
    train(configs[0], LocalContext(tmp_path / "alone"), dataset=dataset())
    lanes = train_pack(configs, contexts(tmp_path, configs), dataset=dataset(), width=3)
    assert lanes[1].result is None
    assert lanes[1].error is not None
    assert lanes[0].result is not None
    assert lanes[2].result is not None
    assert_same(curve(tmp_path / "lane-0"), curve(tmp_path / "alone"))


def test_lanes_of_several_shapes_and_lengths_share_one_process(tmp_path: Path) -> None:
    wide = SMALL.model_copy(update={"latent": 5})
    fields = {"evaluation": {"every_epochs": 6, "pictures": False}}
    configs = [
        config("elbo", SMALL, steps=40, **fields), config("elbo", SMALL, steps=60, seed=1, **fields),
        config("elbo", wide, steps=30, **fields), config("iwae", SMALL, steps=30, **fields),
    ]  # fmt: skip
    lanes = check(configs, dataset(), tmp_path, 4)
    assert [lane.result.steps for lane in lanes if lane.result is not None] == [40, 60, 30, 30]


NUMBERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sigma": ("elbo", "mlp-relu/gaussian/standard-normal/diagonal-normal", {"model__likelihood__sigma": 0.7}),
    "scale of a discretized likelihood": (
        "elbo", "mlp-relu/discretized-logistic/standard-normal/diagonal-normal", {"model__likelihood__scale": 0.3},
    ),
    "fixed posterior": (
        "elbo", "mlp-relu/bernoulli/standard-normal/isotropic-fixed", {"model__posterior__sigma": 0.9},
    ),
    "soft clip": (
        "elbo", "mlp-relu/gaussian-mle-iso/standard-normal/diagonal-normal", {"model__likelihood__softclip": -2.0},
    ),
    "weight of MMD": ("wae-mmd", "mlp-relu/bernoulli/standard-normal/delta", {"objective__weight": 3.0}),
    "weights of RAE": (
        "rae-gp", "mlp-relu/bernoulli/standard-normal/delta",
        {"objective__latent_weight": 0.1, "objective__decoder_weight": 0.01},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_of_the_parts_differ_between_lanes(what: str, tmp_path: Path) -> None:
    objective, model, change = NUMBERS[what]
    base = config(objective, catalogue.MODELS[model][0], steps=STEPS if couples(objective, model) else FEWER)
    widths = Widths()
    configs = [base, changed(base, **change), changed(base, **change, seed=3)]
    check(configs, dataset(), tmp_path, 3, widths)
    assert widths.reasons == {}  # fused, and not in turn


def test_a_part_that_cannot_be_mapped_is_trained_in_turn_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = config("elbo", catalogue.MODELS["mlp-relu/gaussian/standard-normal/diagonal-normal"][0], steps=FEWER)
    original = Gaussian.log_prob

    def waits(self: Gaussian, x: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        return original(self, x, decoded) * float(x.sum() != -1)

    monkeypatch.setattr(Gaussian, "log_prob", waits)
    widths = Widths()
    check([base, changed(base, seed=3)], dataset(), tmp_path, 2, widths)
    assert "item" in widths.reasons[2]


def test_one_data_set_for_all(tmp_path: Path) -> None:
    configs = grid([0], [1e-3])
    other = configs[0].model_copy(update={"data": configs[0].data.model_copy(update={"name": "digits"})})
    with pytest.raises(ValueError, match="share the resident set"):
        train_pack([*configs, other], contexts(tmp_path, [*configs, other]), dataset=dataset())
