"""Encoder and decoder as programs: the same numbers as the model, any batch, torch alone, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import catalogue, trained_models
from tests.unit.models import strangers
from tests.unit.trained.test_trained import of_parts
from vae_models.trained import Trained, export
from vae_models.trained.checks import Refused

PLAIN = "mlp-relu/bernoulli/standard-normal/diagonal-normal"
RUN = """
import sys, torch
encoder, decoder = (torch.export.load(f"{name}.pt2").module() for name in ("encoder", "decoder"))
x = torch.load("x.pt", weights_only=True)
made = [encoder(x), decoder(encoder(x)[0]), encoder(x[:1])]
torch.save([list(each) for each in made], "made.pt")
print(sorted({"vae_models", "service", "pydantic", "safetensors"} & {name.partition(".")[0] for name in sys.modules}))
"""


# while a program is traced a batch has no number, which the checks of shapes do not know
pytestmark = pytest.mark.usefixtures("shapes_unchecked")


@pytest.mark.parametrize(
    "name",
    [
        PLAIN,
        "resnet-odd/bernoulli/standard-normal/diagonal-normal",
        "mlp-relu/gaussian-mle-diag/standard-normal/diagonal-normal",
        "mlp-relu/logistic-mixture/standard-normal/diagonal-normal",
        "mlp-relu/bernoulli/vampprior/diagonal-normal",
        "mlp-relu/bernoulli/standard-normal/delta",
    ],
)
def test_programs_compute_what_the_model_does(name: str, tmp_path: Path) -> None:
    model, x = of_parts(name)
    about = export.export(model, tmp_path)
    encoder, decoder = (torch.export.load(tmp_path / file).module() for file in (export.ENCODER, export.DECODER))
    for rows in (x, x[:1], np.concatenate([x] * 9)):
        given, expected = torch.from_numpy(rows), model.encode(rows)
        found = encoder(given)
        np.testing.assert_allclose(found[0].detach(), expected.mean, rtol=1e-12, atol=1e-12)
        assert len(found) == (1 if expected.std is None else 2)
        np.testing.assert_allclose(decoder(found[0])[0].detach(), model.reconstruct(rows), rtol=1e-12, atol=1e-12)
    assert json.loads((tmp_path / export.ABOUT).read_text()) == about
    for file, told in about["files"].items():
        assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() == told["sha256"]
        assert told["differs_at_most"] <= about["rounding"] == 1e-12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.pt2", "encoder.pt2", "export.json"]


def test_a_program_has_no_weights_that_it_does_not_read(tmp_path: Path) -> None:
    model, _ = of_parts("mlp-relu/bernoulli/vhp/diagonal-normal")
    export.export(model, tmp_path)
    names = {file: set(torch.export.load(tmp_path / file).state_dict) for file in (export.ENCODER, export.DECODER)}
    own = set(model.model.state_dict())
    assert all({name.removeprefix("model.") for name in some} < own for some in names.values())
    assert not names[export.ENCODER] & names[export.DECODER]


@pytest.mark.parametrize("gating", ["mlp-shared", "table-1"])
def test_a_multi_rate_model_is_exported_at_one_beta(gating: str, tmp_path: Path) -> None:
    gates, backbone, shape = catalogue.GATINGS[gating]
    config = catalogue.train_config("elbo", trained_models.config_of().model, dtype="float64")
    told = config.model.model_copy(update={"gating": gates, "backbone": backbone, "latent": 3})
    with torch.random.fork_rng(devices=[]):  # of some weights no hidden unit of the gates is above 0: they ignore beta
        torch.manual_seed(0)
        built = told.build(shape).double()
    model = Trained(built, config.model_copy(update={"model": told}), shape)
    assert export.export(model, tmp_path, beta=0.3)["beta"] == 0.3
    x = np.random.default_rng(0).random((3, *shape))
    found = torch.export.load(tmp_path / export.ENCODER).module()(torch.from_numpy(x))[0].detach()
    np.testing.assert_allclose(found, model.encode(x, beta=0.3).mean, rtol=1e-12, atol=1e-12)
    assert np.abs(found.numpy() - model.encode(x, beta=5.0).mean).max() > 1e-9


def test_torch_alone_runs_them(tmp_path: Path) -> None:
    model, x = of_parts(PLAIN)
    export.export(model, tmp_path)
    torch.save(torch.from_numpy(x), tmp_path / "x.pt")
    command = [sys.executable, "-I", "-c", RUN]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr
    encoded, decoded, one = torch.load(tmp_path / "made.pt", weights_only=True)
    np.testing.assert_allclose(encoded[1].detach(), model.encode(x).std, rtol=1e-12)
    np.testing.assert_allclose(decoded[0].detach(), model.reconstruct(x), rtol=1e-12)
    np.testing.assert_allclose(one[0].detach(), model.encode(x[:1]).mean, rtol=1e-12)


class Branching(nn.Module):
    """What it does depends on a value: no program does."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Counting(nn.Module):
    """What it does depends on how often it was asked."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


@pytest.mark.parametrize(
    ("layer", "words"),
    [(Branching(), "decoder: torch.export cannot make a program"), (Counting(), "computes something else than the")],
)
def test_what_is_no_program_is_refused_and_nothing_written(layer: nn.Module, words: str, tmp_path: Path) -> None:
    model, _ = of_parts(PLAIN)
    network: nn.Module = model.model.get_submodule("backbone.decoder")
    assert isinstance(network, nn.Sequential)
    network.insert(0, layer)
    with pytest.raises(Refused, match=words):
        export.export(model, tmp_path / "programs")
    assert not (tmp_path / "programs").exists()


def test_a_model_of_several_latents_is_refused(tmp_path: Path) -> None:
    config = trained_models.config_of().model_copy(update={"model": strangers.LadderConfig()})
    model = Trained(config.model.build((1, 2, 3)), config, (1, 2, 3))
    with pytest.raises(Refused, match="needs a model of one latent vector"):
        export.export(model, tmp_path)
