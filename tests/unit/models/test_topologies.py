"""Parts of somebody's own: a topology of two latents in the same loop, numbers in fused lanes, promises."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests import catalogue
from vae_models import parts
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.data.spec import DataSpec
from vae_models.parts import PartError
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training import promises
from vae_models.training.checkpoint import load_model
from vae_models.training.context import LocalContext
from vae_models.training.lanes import Widths, train_pack
from vae_models.training.loop import Run, train

SHAPE = (1, 2, 3)
HERE = "tests.unit.models.strangers"


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a package were installed that brings them."""
    entries = [("topology.ladder", f"{HERE}:LadderConfig"), ("likelihood.laplace", f"{HERE}:LaplaceConfig")]
    found = tuple(EntryPoint(name, value, parts.GROUP) for name, value in entries)
    monkeypatch.setattr(parts, "_entries", cache(lambda: found))
    parts.forget()
    yield
    monkeypatch.undo()
    parts.forget()


def dataset(shape: tuple[int, ...] = SHAPE) -> Dataset:
    x = torch.randint(0, 256, (40, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    splits = [Split(x=part) for part in x.split([20, 10, 10])]
    return Dataset(name="mnist", train=splits[0], val=splits[1], test=splits[2], shape=shape)


def config(model: dict[str, Any], **fields: Any) -> TrainConfig:
    evaluation = {"every_epochs": 100, "batch_size": 10, "pictures": False}
    given = {"steps": 20, "batch_size": 8, "log_every_steps": 5, "dtype": "float64", "evaluation": evaluation}
    return TrainConfig.model_validate({"data": {"name": "mnist"}, "model": model} | given | fields)


def losses(folder: Path) -> list[float]:
    lines = (json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


LADDER = {"kind": "ladder", "latent": 3}
LAPLACE = {"latent": 3, "backbone": {"kind": "mlp", "hidden": [8]}, "likelihood": {"kind": "laplace"}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"objective": {"kind": "iwae", "samples": 3}},
        {"beta": {"kind": "rewo", "kappa": 0.1}},
        {"beta": {"kind": "geco", "kappa": 0.1}},
    ],
)
def test_a_ladder_is_trained_evaluated_pictured_and_loaded_by_what_is_there(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    pictured = {"every_epochs": 100, "batch_size": 10, "pictures": True}
    ladder = config(LADDER, **fields, evaluation=pictured, steps=60, optimizer={"lr": 1e-2})
    result = train(ladder, LocalContext(tmp_path), dataset=dataset())
    metrics = result.metrics
    assert metrics["val/elbo"] == pytest.approx(-(metrics["val/distortion"] + metrics["val/rate"]))
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    assert {path.stem.split("-")[0] for path in tmp_path.rglob("*.png")} >= {"reconstructions", "samples", "draws"}
    checkpoint = max(tmp_path.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime).parent
    model, found = load_model(checkpoint)
    assert found == ladder
    assert set(model.latents()) == {"z1", "z2"}  # type: ignore[operator]


def test_the_rate_is_the_sum_over_the_latents(tmp_path: Path) -> None:
    run = Run(config(LADDER), LocalContext(tmp_path), dataset())
    x, noise = run.batch()
    trace = run.model(x, noise)
    assert torch.equal(trace.rate, trace.latents[0].rate + trace.latents[1].rate)
    terms = run.module(x, noise, torch.tensor(0.5, dtype=torch.float64))
    expected = (trace.distortion + 0.5 * (trace.latents[0].rate + trace.latents[1].rate)).mean()
    torch.testing.assert_close(terms[0], expected)


def test_rewo_holds_the_group_that_the_topology_calls_its_prior(tmp_path: Path) -> None:
    run = Run(config(LADDER, beta={"kind": "rewo", "kappa": 1e-6}), LocalContext(tmp_path), dataset())
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.begin()
    run.step()
    moved = {
        name.split(".")[0] for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"up1", "up2", "down1"}


def refused(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**given)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["tc", "wae-mmd", "rae"])
def test_an_objective_of_one_latent_is_refused_when_the_specification_is_read(kind: str) -> None:
    message = refused(model=LADDER, objective={"kind": kind})
    assert f"objective {kind} is of one latent, and model ladder has 2 (z1, z2): choose elbo or iwae" in message


def test_a_topology_without_gates_has_no_beta_of_each_datum() -> None:
    assert "nothing here reads beta" in refused(model=LADDER, beta={"kind": "log-uniform"})


def test_a_model_is_a_vae_unless_it_says_otherwise() -> None:
    plain = config({"latent": 8})
    assert isinstance(plain.model, ModelConfig)
    assert plain.model == ModelConfig(latent=8)
    assert plain.model_dump()["model"]["kind"] == "vae"
    assert config(LADDER).model_dump()["model"]["kind"] == "ladder"


# --- lanes ----------------------------------------------------------------------------------------------------------


def _pack(configs: list[TrainConfig], folder: Path) -> Widths:
    for number, each in enumerate(configs):
        train(each, LocalContext(folder / f"alone-{number}"), dataset=dataset())
    widths = Widths()
    contexts = [LocalContext(folder / f"lane-{number}") for number in range(len(configs))]
    train_pack(configs, contexts, dataset=dataset(), width=len(configs), widths=widths)
    for number in range(len(configs)):
        assert losses(folder / f"lane-{number}") == pytest.approx(losses(folder / f"alone-{number}"), rel=1e-8)
    return widths


def test_a_likelihoods_number_is_fused_because_it_is_declared(tmp_path: Path) -> None:
    scales = (0.3, 1.0, 2.0)
    configs = [config(LAPLACE | {"likelihood": {"kind": "laplace", "scale": scale}}) for scale in scales]
    assert _pack(configs, tmp_path).reasons == {}  # one stack, and not in turn
    assert len({losses(tmp_path / f"lane-{number}")[-1] for number in range(3)}) == 3


def test_ladders_of_two_seeds_are_one_stack(tmp_path: Path) -> None:
    assert _pack([config(LADDER), config(LADDER, seed=3, optimizer={"lr": 3e-3})], tmp_path).reasons == {}


# --- promises -------------------------------------------------------------------------------------------------------

BROKEN = {
    "shape": "log_prob returned shape [3, 1], and must return [3]",
    "draws": "log_prob drew from torch's own generator",
    "counts": "log_prob returned something else when it was called again with the same data and the same noise",
    "nan": "log_prob returned NaN for data that are finite",
    "raises": "log_prob failed: KeyError: 'alpha'",
    "mean": "mean returned shape [3, 6], and must return [3, 1, 2, 3]",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_promise_is_told_with_the_part_and_the_method(fault: str, tmp_path: Path) -> None:
    broken = config(LAPLACE | {"likelihood": {"kind": "laplace", "fault": fault}})
    before = torch.random.get_rng_state()
    with pytest.raises(PartError) as caught:
        Run(broken, LocalContext(tmp_path), dataset())
    assert str(caught.value).startswith("likelihood laplace (tests.unit.models.strangers): ")
    assert BROKEN[fault] in str(caught.value)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name", [name for name in catalogue.MODELS if name.startswith("mlp-relu/") or "conv-28" in name]
)
def test_our_own_parts_keep_their_promises_and_trying_leaves_no_trace(name: str, tmp_path: Path) -> None:
    model, shape = catalogue.MODELS[name]
    objective = "elbo" if catalogue.goes_together("elbo", name) else "ae"
    given = {"steps": 3, "batch_size": 8, "evaluation": {"pictures": False}, "checkpoint": {"metric": "val/distortion"}}
    run = Run(catalogue.train_config(objective, model, data="mnist", **given), LocalContext(tmp_path), dataset(shape))
    run.model.train()
    before = {key: value.clone() for key, value in run.model.named_buffers()}

    def draw(specs: Any) -> Any:
        return run.noise.draw(specs, promises.DATA, stream="promises", step=0)

    x = run.train_data.batch(torch.arange(promises.DATA), draw(run.train_data.noise()))
    step = run.module
    promises.check(run.config, run.model, step.objective, run.controller, x=x, draw=draw)
    assert run.model.training
    assert all(torch.equal(value, before[key]) for key, value in run.model.named_buffers())


# --- shapes ---------------------------------------------------------------------------------------------------------

SHAPES = [(5,), (3, 4, 4), (4, 3), (2, 1, 3, 3)]
LIKELIHOODS = [name for name in catalogue.LIKELIHOODS if not name.startswith("gaussian-mle-diag-datum")]


def built_of(name: str, shape: tuple[int, ...], *, training: bool = False) -> Any:
    torch.manual_seed(0)
    likelihood: Any = catalogue.LIKELIHOODS[name].build(shape)
    return likelihood.double().train(training) if isinstance(likelihood, torch.nn.Module) else likelihood


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_takes_data_of_any_shape(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Flat or not, the same elements have the same nats: nothing but the order of the elements is read."""
    model = ModelConfig(latent=2, likelihood=catalogue.LIKELIHOODS[name])
    torch.manual_seed(0)
    built = model.build(shape).double().eval()
    likelihood, elements = built.likelihood, math.prod(shape)
    flat = built_of(name, (elements,))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (3, *shape), generator=generator).double()
    noise = {key: torch.randn((3, *spec.shape), generator=generator).double() for key, spec in built.noise().items()}
    trace = built(x, noise)
    assert trace.mean.shape == x.shape
    decoded = trace.decoded.unflatten(1, (likelihood.parameters_per_element(), shape[0])).flatten(2).flatten(1)
    torch.testing.assert_close(flat.log_prob(decoded, x.flatten(1)), -trace.distortion)
    if built.sampled:
        uniform = torch.rand(x.shape, generator=generator).double()
        drawn = likelihood.sample(trace.decoded, uniform)
        torch.testing.assert_close(flat.sample(decoded, uniform.flatten(1)), drawn.flatten(1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_padding_counts_nothing(name: str, training: bool) -> None:
    """Of the times beyond a datum's length neither x nor what is decoded matters; without padding nothing changes."""
    steps = 5
    likelihood = built_of(name, (steps, 2))
    x = torch.randint(0, 2, (3, steps, 2)).double()
    decoded = torch.randn(3, likelihood.parameters_per_element() * steps, 2).double()
    mask = (torch.arange(steps) < torch.tensor([[5], [3], [1]])).unsqueeze(-1)

    def nats(decoded: torch.Tensor, x: torch.Tensor, *mask: torch.Tensor) -> torch.Tensor:
        log_prob: torch.Tensor = built_of(name, (steps, 2), training=training).log_prob(decoded, x, *mask)
        return log_prob

    torch.testing.assert_close(nats(decoded, x, torch.ones_like(mask)), nats(decoded, x))
    hidden = ~mask.expand_as(x)
    of_decoded = hidden.unsqueeze(1).expand(-1, likelihood.parameters_per_element(), -1, -1).flatten(1, 2)
    other = nats(decoded.masked_fill(of_decoded, 0.7), x.masked_fill(hidden, 1.0), mask)
    torch.testing.assert_close(nats(decoded, x, mask), other)


def test_draws_are_data_and_their_mean_is_the_mean() -> None:
    torch.manual_seed(0)
    model = ModelConfig(latent=2, likelihood=catalogue.LIKELIHOODS["bernoulli"]).build((1, 2, 2))
    generator = torch.Generator().manual_seed(0)
    noise = {
        name: (torch.rand if spec.kind == "uniform" else torch.randn)((1, *spec.shape), generator=generator)
        for name, spec in model.sample_noise().items()
    }
    mean = model.sample_mean(noise)
    many = {name: value.expand(20_000, *value.shape[1:]) for name, value in noise.items()}
    many["sample/x"] = torch.rand((20_000, 1, 2, 2), generator=generator)
    drawn = model.sample(many)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0, keepdim=True), mean, atol=0.015, rtol=0)


def test_sequences_of_differing_lengths_are_trained_without_their_padding(tmp_path: Path) -> None:
    """Whatever stands in the padding, and alone or as lanes of one stack, the losses are the same."""
    lengths, model = torch.arange(40) % 4 + 1, LAPLACE | {"likelihood": {"kind": "gaussian"}}
    facts = {"shape": (4, 3), "axes": ("time", "feature"), "support": "reals", "sizes": (20, 10, 10), "lengths": True}
    plain = config(model, steps=10)
    data = plain.data.model_copy(update={"facts": DataSpec.model_validate(facts)})
    configs = [plain.model_copy(update={"data": data, "seed": seed}) for seed in (0, 1)]
    x = torch.randn(40, 4, 3, generator=torch.Generator().manual_seed(0))
    hidden = (torch.arange(4) >= lengths.unsqueeze(1)).unsqueeze(-1).expand_as(x)

    def padded(value: float) -> Dataset:
        parts = zip(x.masked_fill(hidden, value).split([20, 10, 10]), lengths.split([20, 10, 10]), strict=True)
        train_, val, test = (Split(x=part, lengths=each) for part, each in parts)
        return Dataset(name="mnist", train=train_, val=val, test=test, shape=(4, 3))

    run = Run(configs[0], LocalContext(tmp_path / "one"), padded(0.0))
    x_batch, noise = run.batch()
    mask = run.mask()
    assert mask is not None
    other = x_batch.masked_fill(~mask.expand_as(x_batch), 5.0)
    trace = run.model(x_batch, noise, None, mask)
    squared = (x_batch - trace.mean).square() * mask
    torch.testing.assert_close(trace.squared_error, squared.flatten(1).sum(1) / (3 * mask.flatten(1).sum(1)))
    nats = [run.model.likelihood.log_prob(trace.decoded, each, mask) for each in (x_batch, other)]
    assert torch.equal(*nats)
    for number, each in enumerate(configs):
        train(each, LocalContext(tmp_path / f"alone-{number}"), dataset=padded(0.0))
    widths = Widths()
    contexts = [LocalContext(tmp_path / f"lane-{number}") for number in range(2)]
    train_pack(configs, contexts, dataset=padded(0.0), width=2, widths=widths)
    assert widths.reasons == {}
    for number in range(2):
        assert losses(tmp_path / f"lane-{number}") == pytest.approx(losses(tmp_path / f"alone-{number}"), rel=1e-8)
