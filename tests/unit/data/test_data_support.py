"""Values that x cannot be are named before the first step: of every split, at every door of the loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.catalogue import LIKELIHOODS
from vae_models.backbones.specs import MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, DataUnfit, Split, support
from vae_models.data.config import DataConfig
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training.context import LocalContext
from vae_models.training.lanes import train_pack
from vae_models.training.loop import train

SHAPE = (1, 8, 8)
SPLITS = ("train", "val", "test")


def reals(**changed: Tensor) -> Dataset:
    """Levels k/255 as float32; `changed` are images of some of the splits."""
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.randint(0, 256, (9, *SHAPE), generator=generator) / 255 for name in SPLITS} | changed
    splits = {name: Split(x=images[name]) for name in SPLITS}
    return Dataset(name="digits", shape=SHAPE, **splits)


def config(likelihood: str = "gaussian", **data: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"name": "digits", **data},
            "model": ModelConfig(latent=2, backbone=MLPConfig(hidden=(4,)), likelihood=LIKELIHOODS[likelihood]),
            "steps": 2,
            "batch_size": 3,
        }
    )


def _with(value: float) -> Tensor:
    images = torch.full((9, *SHAPE), 0.5)
    images[4, 0, 2, 7] = value
    return images


BAD: dict[str, tuple[Tensor, str]] = {
    "nan": (_with(float("nan")), "datum 4 has nan at channel 0, row 2, column 7 .*must be finite"),
    "inf": (_with(float("inf")), "datum 4 has inf at channel 0, row 2, column 7 .*must be finite"),
    "bytes-as-floats": (torch.arange(9 * 64.0).reshape(9, *SHAPE) % 256, "datum 0 has 2 .*divide them by 255"),
    "signed": (_with(-0.5), r"datum 4 has -0\.5 .*\(x \+ 1\) / 2"),
    "standardized": (_with(2.5) - 0.6, r"they reach from -0\.1 to 1\.9, so scale them to \[0, 1\]"),
    "doubles": (_with(0.5).double(), r"float64; .*\.to\(torch\.float32\)"),
    "another shape": (torch.zeros(9, 1, 8, 9), r"\[9, 1, 8, 9\], and the data set says \[n, 1, 8, 8\]"),
    "none": (torch.zeros(0, *SHAPE), "are none"),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", BAD)
def test_fault_13a_values_that_do_not_fit_are_named_before_the_first_step(
    case: str, split: str, tmp_path: Path
) -> None:
    images, complaint = BAD[case]
    with pytest.raises(DataUnfit, match=f"the {split} images given for digits.*{complaint}") as refused:
        train(config(), LocalContext(tmp_path), dataset=reals(**{split: images}))
    assert "learning rate" not in str(refused.value)
    assert "optimizer.lr" not in str(refused.value)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_fault_13a_a_pack_names_them_too(tmp_path: Path) -> None:
    images, complaint = BAD["bytes-as-floats"]
    with pytest.raises(DataUnfit, match=complaint):
        train_pack([config(), config()], [LocalContext(tmp_path / n) for n in "ab"], dataset=reals(val=images))


@pytest.mark.parametrize(
    ("likelihood", "data", "images", "complaint"),
    [
        ("bernoulli", {"name": "binarized-mnist"}, torch.full((9, 1, 8, 8), 0.5), "must be 0 or 1"),
        ("bernoulli", {"name": "binarized-mnist"}, torch.full((9, 1, 8, 8), 7).byte(), "must be 0 or 255"),
        ("categorical", {}, torch.full((9, 1, 8, 8), 0.5), "must be a level k/255"),
        ("discretized-logistic", {}, torch.full((9, 1, 8, 8), 0.5), "must be a level k/255"),
        ("bernoulli", {"binarize": "threshold"}, torch.full((9, 1, 8, 8), 0.5), "binarize=threshold is for bytes"),
    ],
)
def test_fault_13a_what_is_declared_decides(
    likelihood: str, data: dict[str, str], images: Tensor, complaint: str
) -> None:
    declared = DataConfig.model_validate({"name": "digits", **data})
    with pytest.raises(DataUnfit, match=complaint):
        support.check(reals(train=images), declared, levels=LIKELIHOODS[likelihood].levels)


REALS = {"shape": [1, 8, 8], "axes": ["channel", "height", "width"], "support": "reals", "sizes": [9, 9, 9]}


@pytest.mark.parametrize(
    ("data", "images"),
    [
        ({}, torch.rand(9, 1, 8, 8)),
        ({}, torch.randint(0, 256, (9, 1, 8, 8)).byte()),
        ({"binarize": "threshold"}, torch.randint(0, 256, (9, 1, 8, 8)).byte()),
        ({"name": "binarized-mnist"}, torch.randint(0, 2, (9, 1, 8, 8)).float()),
        ({"name": "binarized-mnist"}, torch.randint(0, 2, (9, 1, 8, 8)).byte() * 255),
        ({"name": "mine", "digest": "0" * 64, "facts": REALS}, 300 * torch.randn(9, 1, 8, 8)),
        ({"noise": {"kind": "gaussian"}}, torch.randn(9, 1, 8, 8)),
    ],
)
def test_what_fits_passes(data: dict[str, object], images: Tensor) -> None:
    given = Dataset(name="digits", shape=SHAPE, **dict.fromkeys(SPLITS, Split(x=images)))
    support.check(given, DataConfig.model_validate({"name": "digits", **data}))


def test_levels_in_float32_are_levels() -> None:
    levels = (torch.arange(256, dtype=torch.float32) / 255).reshape(4, 1, 8, 8)
    given = Dataset(name="digits", shape=SHAPE, **dict.fromkeys(SPLITS, Split(x=levels)))
    support.check(given, DataConfig(name="digits"), levels=256)


@pytest.mark.parametrize("at_once", [1, 64, 100, 1 << 24])
def test_fault_13a_the_datum_is_counted_across_chunks(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "_AT_ONCE", at_once)
    images = torch.full((9, *SHAPE), 0.5)
    images[7, 0, 1, 3], images[8] = float("nan"), float("nan")
    with pytest.raises(DataUnfit, match=re.escape("datum 7 has nan at channel 0, row 1, column 3 (65 such values")):
        support.check(reals(test=images), DataConfig(name="digits"))
    images[8, 0, 0, 0], images[7] = 300.0, 0.5
    images[8] = images[8].nan_to_num(0.5)
    with pytest.raises(DataUnfit, match="datum 8 has 300 at channel 0, row 0, column 0"):
        support.check(reals(test=images), DataConfig(name="cifar10"))


TEXT = {"shape": [6], "axes": ["time"], "support": "tokens", "vocabulary": 11, "lengths": True, "sizes": [9, 9, 9]}
VIDEO = {"shape": [3, 1, 2, 2], "axes": ["time", "channel", "height", "width"], "support": "unit", "sizes": [9, 9, 9]}


def own(facts: dict[str, object]) -> DataConfig:
    return DataConfig.model_validate({"name": "mine", "digest": "0" * 64, "facts": facts})


def given(config: DataConfig, x: Tensor, lengths: Tensor | None = None) -> Dataset:
    return Dataset(name="mine", shape=config.facts.shape, **dict.fromkeys(SPLITS, Split(x=x, lengths=lengths)))


def _at(x: Tensor, place: tuple[int, ...], value: float) -> Tensor:
    x[place] = value
    return x


@pytest.mark.parametrize(
    ("facts", "x", "lengths", "complaint"),
    [
        (TEXT, torch.full((9, 6), 10).int(), torch.arange(9) % 6 + 1, None),
        (TEXT, _at(torch.zeros(9, 6).int(), (4, 5), 11), torch.full((9,), 6), "datum 4 has 11 at time 5 .* 0 to 10"),
        (TEXT, torch.zeros(9, 6), torch.full((9,), 6), r"float32; x is made of tokens \(int32\)"),
        (TEXT, torch.zeros(9, 6).int(), None, "train data given for mine need a length each"),
        (TEXT, torch.zeros(9, 6).int(), torch.arange(9), "datum 0 has the length 0; it must be 1 to 6"),
        (TEXT, torch.zeros(9, 6).int(), torch.full((9,), 7), "datum 0 has the length 7; it must be 1 to 6"),
        (TEXT, torch.zeros(9, 5).int(), torch.full((9,), 5), r"\[n, 6\]: it must be \[n, time\]"),
        (VIDEO, torch.full((9, 3, 1, 2, 2), 0.5), None, None),
        (VIDEO, torch.full((9, 3, 1, 2, 2), 0.5), torch.full((9,), 3), "have lengths of their own"),
        (
            VIDEO,
            _at(torch.full((9, 3, 1, 2, 2), 0.5), (8, 2, 0, 1, 0), 1.5),
            None,
            r"datum 8 has 1\.5 at time 2, channel 0, row 1, column 0 .* must lie in \[0, 1\]",
        ),
    ],
)
def test_data_of_any_axes_are_looked_at(
    facts: dict[str, object], x: Tensor, lengths: Tensor | None, complaint: str | None
) -> None:
    config = own(facts)
    if complaint is None:
        support.check(given(config, x, lengths), config)
        return
    with pytest.raises(DataUnfit, match=complaint):
        support.check(given(config, x, lengths), config)


def test_a_label_is_missing() -> None:
    given = reals()
    short = Split(x=given.val.x, labels=torch.zeros(8))
    with pytest.raises(DataUnfit, match="val images given for digits are 9, and their labels 8"):
        support.check(Dataset(name="digits", shape=SHAPE, train=given.train, val=short, test=given.test), _digits())


def _digits() -> DataConfig:
    return DataConfig(name="digits")


def test_bytes_cost_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey and coloured bytes are k/255 whatever they are."""
    refuse: Callable[..., None] = lambda *_: pytest.fail("the values were read")  # noqa: E731
    monkeypatch.setattr(support, "_chunks", refuse)
    given = Dataset(
        name="digits", shape=SHAPE, **dict.fromkeys(SPLITS, Split(x=torch.zeros(9, *SHAPE, dtype=torch.uint8)))
    )
    support.check(given, _digits(), levels=256)
