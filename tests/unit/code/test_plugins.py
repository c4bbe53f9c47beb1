"""The package in `tests/plugins` by itself: small, outside of the product, and right."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from service import kinds
from service.code.build import built
from service.code.wheel import unpack
from service.errors import UsageError
from tests import subjects
from tests.command import vaesvc
from vae_models.evaluation.drawing import drawn, latents

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "tests" / "plugins"
SEAMS = {
    "likelihood": "laplace", "prior": "logistic", "backbone": "residual", "objective": "free-bits",
    "beta": "half-cosine", "topology": "two-ladder", "data-source": "rings", "measure": "worst_error",
    "searcher": "halton", "job-kind": "count-parameters", "recipe": "rings/lighthouse",
    "search": "searches/rings/scales", "sampler": "aggregate", "posterior": "floored-normal",
    "optimizer": "rmsprop", "schedule": "inverse-root", "noise": "jitter", "evaluator": "norms",
    "features": "moments", "pruner": "worst-out", "reproduction": "lighthouse/table-1", "frame-net": "flat",
}  # fmt: skip


@pytest.fixture
def lighthouse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its modules can be imported, and are forgotten afterwards. Nothing is registered."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "lighthouse"]:
        del sys.modules[name]


def test_it_is_small_and_the_product_knows_nothing_of_it() -> None:
    files = sorted((PLUGINS / "lighthouse").glob("*.py"))
    assert len(files) > 10
    assert {file.name: lines for file in files if (lines := len(file.read_text().splitlines())) > 60} == {}
    for package in ("service", "tuning", "vae_models", "vaesvc"):
        for file in (ROOT / package).rglob("*.py"):
            assert "lighthouse" not in file.read_text(), file


def test_every_seam_has_its_part(tmp_path: Path) -> None:
    unpack(built(PLUGINS), tmp_path)
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = json.loads(vaesvc(env, "parts", "--json").stdout)
    for seam, kind in SEAMS.items():
        assert [part["package"] for part in found[seam]["parts"] if part["kind"] == kind] == ["lighthouse 1.0"], seam
    assert [broken for seam in found.values() for broken in seam["broken"]] == []


RESOLVED = """
import json
from service import kinds
from tuning.study import trials
names = ("rings/lighthouse", "rings/two-ladder", "searches/rings/scales")
code = {"digest": "a" * 64, "name": "lighthouse", "version": "1.0"}
specs = [kinds.resolve(name, code=code) for name in names]
counted = kinds.resolve({"kind": "count-parameters", "train": specs[0].train.model_dump(), "code": code})
print(json.dumps([spec.model_dump(mode="json") for spec in (*specs, counted)], sort_keys=True))
"""


def test_a_process_that_has_not_got_it_reads_its_specs_and_keeps_them_as_they_are(tmp_path: Path) -> None:
    """As the API does: every part of them is unknown here."""
    unpack(built(PLUGINS), tmp_path)
    env = os.environ | {"PYTHONPATH": str(tmp_path), "VAESVC_CODE": "a" * 64}
    done = subprocess.run([sys.executable, "-c", RESOLVED], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    for spec in given:
        assert kinds.resolve(spec).model_dump(mode="json") == spec
        assert kinds.parse(spec).model_dump(mode="json") == spec
        assert kinds.config(spec) or spec["kind"] == "count-parameters"
        kinds.policy(kinds.parse(spec))
        with pytest.raises(UsageError):  # without the package they are mistakes
            kinds.resolve({name: value for name, value in spec.items() if name != "code"})
    wrong = {**given[0], "train": {**given[0]["train"], "batch_size": 0}}
    with pytest.raises(UsageError, match="batch_size: 0"):  # what is known is checked
        kinds.resolve(wrong)


def test_its_densities_are_those_of_torch_and_its_draws_follow_them(lighthouse: None) -> None:
    from lighthouse.laplace import Laplace
    from lighthouse.logistic import Logistic

    x, mean = torch.randn(5, 6), torch.randn(5, 6)
    expected = torch.distributions.Laplace(mean, 0.3).log_prob(x).sum(1)
    likelihood: Any = Laplace(scale=0.3)
    torch.testing.assert_close(likelihood.log_prob(mean, x), expected)
    quantiles = torch.distributions.Laplace(mean, 0.3).icdf(torch.full((5, 6), 0.9))
    torch.testing.assert_close(likelihood.sample(mean, torch.full((5, 6), 0.9)), quantiles)
    z = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    prior: Any = Logistic(latent=1)
    assert math.isclose(float(torch.trapezoid(prior.log_prob(z[:, None]).exp(), z)), 1.0, abs_tol=1e-9)
    assert float(prior.sample({"u": torch.tensor([[0.5]])}, None)) == 0


def test_its_ladder_gives_the_same_rate_as_torch(lighthouse: None) -> None:
    from lighthouse.ladder import LadderConfig

    torch.manual_seed(0)
    model: Any = LadderConfig.model_validate({"latent": 2}).build((6,))
    noise = {"z1": torch.randn(4, 2), "z2": torch.randn(4, 2)}
    trace = model(torch.rand(4, 6), noise)
    low, top = trace.latents
    assert [latent.name for latent in trace.latents] == list(model.latents())
    torch.testing.assert_close(top.log_p, torch.distributions.Normal(0, 1).log_prob(top.sample).sum(1))
    torch.testing.assert_close(low.log_q - low.log_p, low.rate)
    assert model.sample_mean(noise).shape == (4, 6)


def test_its_sampler_has_the_moments_of_the_aggregate_posterior(lighthouse: None) -> None:
    from lighthouse.aggregate import AggregateConfig

    subject, sampler = subjects.digits(), AggregateConfig.model_validate({})
    z, posteriors = latents(subject, sampler, 5000), subject.posteriors("train")
    assert posteriors.log_std is not None
    draws = posteriors.mean + posteriors.log_std.exp() * torch.randn_like(posteriors.mean)
    torch.testing.assert_close(z.std(0), draws.std(0), rtol=0.08, atol=0)
    assert ((z.mean(0) - draws.mean(0)).abs() < 0.1 * draws.std(0)).all()
    torch.testing.assert_close(drawn(subject, sampler, 9), subject.space.decode(z[:9]))


def test_its_rules_are_what_they_say(lighthouse: None) -> None:
    from lighthouse.half_cosine import HalfCosine
    from lighthouse.halton import radical_inverse
    from lighthouse.rings import RINGS

    control = HalfCosine(value=2.0, steps=10)
    assert [float(control.beta({}, step, {})) for step in (0, 5, 10, 99)] == pytest.approx([0, 1, 2, 2])
    assert [radical_inverse(number, 2) for number in (1, 2, 3, 4)] == [0.5, 0.25, 0.75, 0.125]
    rings: Any = RINGS
    one, two = rings.load(None), rings.load(None)
    assert torch.equal(one.train.x, two.train.x)
    assert tuple(len(split) for split in (one.train, one.val, one.test)) == rings.facts.sizes
    assert tuple(one.train.x.shape[1:]) == rings.facts.shape
