"""Every part at every size, batch and number of data: it trains, or is refused in a sentence before it starts.

VAESVC_DEEP=N draws N times as many examples, and tries every size from 1 x 1 to 65 x 33 instead of a selection.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.catalogue import BACKBONES, BETAS, GATINGS, LIKELIHOODS, OBJECTIVES, POSTERIORS, PRIORS
from vae_models.backbones.specs import (
    BackboneConfig,
    ConvConfig,
    InfoGanConfig,
    ResNetConfig,
    SigmaVaeConfig,
    VhpConvConfig,
)
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.data.spec import AXES
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training.context import LocalContext
from vae_models.training.lanes import train_pack
from vae_models.training.loop import train

pytestmark = pytest.mark.slow  # every part at hundreds of sizes

DEEP = int(os.environ.get("VAESVC_DEEP", "0"))
# whether sizes are small, powers of two, or odd is what kernels and paddings care for
HEIGHTS = range(1, 66) if DEEP else (1, 2, 3, 4, 5, 8, 13, 14, 16, 17, 28, 31, 32, 33, 64, 65)
WIDTHS = range(1, 34) if DEEP else (1, 2, 3, 4, 5, 8, 14, 15, 28, 31, 32, 33)
pytestmark = pytest.mark.timeout(0 if DEEP else 600)  # seconds; none for the deep
PICTURES = {"reconstructions", "samples"}
WIDE = "infogan"  # its linear layers are of a thousand units: small images only, where numbers are computed
ALIKE = {"mlp-tanh", "mlp-elu", "mlp-softplus", "mlp-gelu", "conv-32", "resnet-32", "resnet-64", "sigma-vae-32"}
NETS: dict[str, BackboneConfig] = {
    **{name: net for name, (net, _) in BACKBONES.items() if name not in ALIKE},
    "conv-one": ConvConfig(channels=(2,)),
    "conv-deep": ConvConfig(channels=(2, 3, 4, 5, 6)),
    "infogan-kernel-4": InfoGanConfig(kernel=4),
    "infogan-plain-5": InfoGanConfig(norm=False),
}


@pytest.mark.parametrize("name", NETS)
def test_fault_18_every_backbone_takes_an_image_or_says_which_it_takes(name: str) -> None:
    """Torch's own convolutions, without memory or numbers, against the sizes that were worked out without torch."""
    net, taken, refused = NETS[name], [], [0]  # the shorter sides
    for height in HEIGHTS:
        for width in WIDTHS:
            shape = (1 + 2 * (height % 2), height, width)
            sentence = refusal(net, shape)
            if sentence is not None:
                helps(sentence)
                assert f"{height} x {width}" in sentence
                refused.append(min(height, width))
                continue
            taken.append(min(height, width))
            with torch.device("meta"):
                built = net.build(shape, 2, 3)
                mean, raw = built.encode(torch.zeros(2, *shape))
                assert raw is not None
                assert mean.shape == raw.shape == (2, 2)
                assert built.decode(mean).shape == (2, 3 * shape[0], height, width)
    assert max(refused) < min(taken) <= 32  # too small is the only reason


def refusal(net: BackboneConfig, shape: tuple[int, int, int]) -> str | None:
    try:
        net.check(shape)
    except ValueError as error:
        return str(error)
    return None


# other numbers than the catalogue's, by kind: each part's corners
NUMBERS: dict[str, dict[str, list[Any]]] = {
    "mlp": {"hidden": [[], [1], [3, 2]], "decoder_hidden": [None, [], [2]], "decoder_activation": [None, "identity"]},
    "gaussian": {
        "fit": ["fixed", "trained", "mle", "predicted"], "tie": ["iso", "diag"], "per": ["dataset", "datum"],
        "sigma": [1e-3, 0.3, 50.0], "softclip": [None, -1000.0, -6.0, 1.0], "epsilon": [0.0, 1e-6],
        "link": ["identity", "sigmoid"],
    },
    "discretized": {"scale": [0.003, 10.0], "fit": ["trained", "predicted"], "link": ["identity", "sigmoid"]},
    "logistic-mixture": {"components": [1, 3]},
    "vhp": {"inner": [None, 1, 5], "importance_samples": [1, 2], "hidden": [[], [1], [2, 3]], "gated": [True, False]},
    "vampprior": {"components": [1, 2], "deviation": [0.0, 0.05], "clip": [True, False], "mean": [0.0, 0.5]},
    "isotropic-normal": {"sigma": [1e-3, 10.0], "fit": ["fixed", "trained"]},
    "iwae": {"samples": [1, 2]},
    "wae-mmd": {"weight": [0.0, 100.0]},
    "rae": {"latent_weight": [0.0, 1.0], "decoder_weight": [0.0, 1.0], "regularizer": ["l2", "gradient"]},
    "warmup": {"epochs": [1e-3, 5.0], "start": [0.0, 1.0]},
    "cyclic": {"cycle_epochs": [1e-3, 5.0], "rising": [0.1, 1.0]},
    "rewo": {"kappa": [1e-3, 2.0]},
    "geco": {"kappa": [1e-3, 2.0]},
    "rewo-alternative": {"kappa": [1e-3, 2.0]},
}  # fmt: skip


def changed(draw: st.DrawFn, part: Any) -> Any:
    """The part's configuration as data, some of its numbers changed."""
    found = part.model_dump()
    for name, values in NUMBERS.get(part.kind, {}).items():
        if draw(st.booleans()):
            found[name] = draw(st.sampled_from(values))
    return found


@dataclass(frozen=True, kw_only=True)
class Case:
    shape: tuple[int, int, int]
    batch: int
    sizes: tuple[int, int, int]
    parts: dict[str, str | None]
    spec: dict[str, Any]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Parts that mostly go together: what is refused for its kinds alone is tested in `test_combinations`."""
    objective = draw(st.sampled_from(list(OBJECTIVES)))
    bound = OBJECTIVES[objective].rate
    gating = draw(st.sampled_from([None, None, *GATINGS])) if bound and objective != "iwae" else None
    backbone = draw(st.sampled_from(list(NETS)))
    posterior = "delta" if not bound else draw(st.sampled_from([name for name in POSTERIORS if name != "delta"]))
    prior = draw(st.sampled_from(list(PRIORS))) if bound else "standard-normal"
    if gating is not None:
        beta = "log-uniform"
        prior = "vhp" if prior == "vampprior" else prior
    else:
        allowed = [name for name in BETAS if name != "log-uniform"] if bound and objective != "iwae" else [None]
        beta = draw(st.sampled_from(allowed))
    likelihood = draw(st.sampled_from(list(LIKELIHOODS)))
    largest = (7, 7) if NETS[backbone].kind == WIDE else (65, 33)
    side = st.one_of(st.integers(1, 9), st.integers(1, 65))
    shape = (draw(st.sampled_from([1, 3])), min(draw(side), largest[0]), min(draw(side), largest[1]))
    batch = draw(st.integers(1, 3))
    sizes = (draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    parts = {
        "backbone": backbone, "likelihood": likelihood, "prior": prior, "posterior": posterior,
        "objective": objective, "beta": beta, "gating": gating,
    }  # fmt: skip
    dump = (lambda part: changed(draw, part)) if draw(st.booleans()) else (lambda part: part.model_dump())
    model = {
        "latent": draw(st.integers(1, 3)),
        "backbone": dump(NETS[backbone]),
        "likelihood": dump(LIKELIHOODS[likelihood]),
        "prior": dump(PRIORS[prior]),
        "posterior": dump(POSTERIORS[posterior]),
        "gating": None if gating is None else GATINGS[gating][0],
    }
    spec = {
        "data": own(shape, sizes, binarize="threshold" if LIKELIHOODS[likelihood].levels == 2 else "none"),
        "model": model,
        "objective": dump(OBJECTIVES[objective]),
        **({} if beta is None else {"beta": dump(BETAS[beta])}),
        "steps": 2,
        "batch_size": batch,
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "log_every_steps": 1,
        "evaluation": {"batch_size": 2},
        "checkpoint": {"metric": "val/distortion", "mode": "min"},
    }
    return Case(shape=shape, batch=batch, sizes=sizes, parts=parts, spec=spec)


@given(case=cases())
@settings(
    max_examples=150 * max(1, DEEP),
    deadline=None,
    derandomize=DEEP <= 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_fault_18_every_part_trains_or_is_refused_in_a_sentence(case: Case) -> None:
    """Steps, evaluation (its last batch is short), pictures and checkpoints: the whole loop, on data of that shape."""
    try:
        config = TrainConfig.model_validate(case.spec)
    except ValidationError as error:
        event("refused")
        for found in error.errors():
            helps(str(found["msg"]).removeprefix("Value error, "))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, LocalContext(Path(folder)), dataset=levels(case.shape, case.sizes))
        assert {path.name.partition("-")[0] for path in Path(folder, "pictures").iterdir()} >= PICTURES
    event("trained")
    assert result.steps == 2
    wanted = {"train/loss", "val/distortion", "test/distortion", "val/squared_error"}
    assert wanted <= result.metrics.keys()
    assert all(math.isfinite(value) for value in result.metrics.values()), result.metrics


@given(case=cases())
@settings(
    max_examples=25 * max(1, DEEP),
    deadline=None,
    derandomize=DEEP <= 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_fault_18_two_lanes_of_every_part_are_what_one_is_alone(case: Case) -> None:
    """Two configurations in one step, of which the second learns faster: the first is what it is alone."""
    try:
        spec = case.spec | {"dtype": "float64"}  # batch norm of two equal data magnifies float32's rounding
        configs = [TrainConfig.model_validate({**spec, "optimizer": {"lr": lr}}) for lr in (1e-3, 2e-3)]
    except ValidationError:
        return  # the sentence is asked for above
    dataset = levels(case.shape, case.sizes)
    with tempfile.TemporaryDirectory() as folder:
        alone = train(configs[0], LocalContext(Path(folder, "alone")), dataset=dataset)
        contexts = [LocalContext(Path(folder, str(number))) for number in range(2)]
        lanes = train_pack(configs, contexts, dataset=dataset, width=2)
    for lane in lanes:
        assert lane.error is None, lane.error
        assert lane.result is not None
        assert lane.result.metrics.keys() == alone.metrics.keys()
        assert all(math.isfinite(value) for value in lane.result.metrics.values())
    assert lanes[0].result is not None
    loss = alone.metrics["train/loss"]
    assert lanes[0].result.metrics["train/loss"] == pytest.approx(loss, rel=1e-3, abs=1e-3)


def helps(message: str) -> None:
    """One line that says what is allowed or what to do, and no fragment of torch's or of Python's own words."""
    assert "\n" not in message
    assert re.search(r"\b(set|choose|use|give|leave|fit|or more|at least|must be|\d+ to \d+)\b", message), message
    assert not re.search(r"Error|mat1|size mismatch|domain|\bNone\b|tensor", message), message


def own(shape: tuple[int, int, int], sizes: tuple[int, int, int], binarize: str = "none") -> dict[str, object]:
    """Images of somebody's own, of this shape and number."""
    facts = {"shape": shape, "axes": AXES, "support": "bytes", "sizes": sizes}
    return {"name": "mine", "digest": "0" * 64, "facts": facts, "binarize": binarize}


def levels(shape: tuple[int, int, int], sizes: tuple[int, int, int]) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    parts = [Split(x=torch.randint(0, 256, (n, *shape), generator=generator).to(torch.uint8)) for n in sizes]
    train_split, val, test = parts
    return Dataset(name="mine", train=train_split, val=val, test=test, shape=shape)


@pytest.mark.parametrize(
    ("model", "shape", "sentence"),
    [
        (ResNetConfig(channels=4), (1, 27, 31), None),
        (InfoGanConfig(norm=False), (1, 9, 7), None),
        (VhpConvConfig(), (3, 13, 5), None),
        (SigmaVaeConfig(channels=4), (1, 27, 31), None),
        (ConvConfig(channels=(2, 3, 4, 5)), (1, 28, 28), "set batch_size to 2 or more"),
        (InfoGanConfig(), (1, 28, 28), "set batch_size to 2 or more"),
        (ConvConfig(channels=(2, 3, 4, 5)), (1, 28, 33), None),  # two values per channel are left
    ],
)
def test_fault_18_a_batch_of_one(model: BackboneConfig, shape: tuple[int, int, int], sentence: str | None) -> None:
    model_config = ModelConfig(latent=2, backbone=model)
    spec = {"data": own(shape, (5, 1, 1)), "model": model_config, "steps": 1, "batch_size": 1}
    if sentence is not None:
        with pytest.raises(ValidationError, match=sentence):
            TrainConfig.model_validate(spec)
        return
    config = TrainConfig.model_validate(spec)
    with tempfile.TemporaryDirectory() as folder:
        train(config, LocalContext(Path(folder)), dataset=levels(shape, (5, 1, 1)))


@pytest.mark.parametrize(("size", "batch"), [(5, 5), (5, 6), (2, 2), (1, 1), (1, 2)])
@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_fault_18_total_correlation_on_few_data(estimator: str, size: int, batch: int) -> None:
    shape = (1, 3, 2)
    spec = {"data": own(shape, (5, 1, 1)), "steps": 2, "batch_size": batch}
    spec |= {
        "model": ModelConfig(latent=2, backbone=NETS["linear"]),
        "objective": {"kind": "tc", "estimator": estimator},
    }
    try:
        config = TrainConfig.model_validate(spec)
    except ValidationError as error:
        assert batch in (1, 6)
        helps(str(error.errors()[0]["msg"]).removeprefix("Value error, "))
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = levels(shape, (size, 1, 1))
        if batch > size:
            with pytest.raises(ValueError, match="compares training data, and there is one: give at least two"):
                train(config, LocalContext(Path(folder)), dataset=dataset)
            return
        result = train(config, LocalContext(Path(folder)), dataset=dataset)
    assert math.isfinite(result.metrics["train/total_correlation"])


def test_fault_18_a_trained_sigma_below_its_soft_clip_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValidationError, match="is not above the soft clip of log sigma, -6: set a larger sigma"):
        GaussianConfig(fit="trained", sigma=1e-3)
    built = GaussianConfig(fit="trained", sigma=1e-3, softclip=-1000.0).build((1, 1, 1))
    assert built.log_sigma(torch.zeros(()), torch.zeros(())).item() == pytest.approx(math.log(1e-3), rel=1e-3)
