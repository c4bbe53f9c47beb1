"""Perplexity of sentences of different lengths: a ratio of sums, and what it is of a model that knows nothing."""

from __future__ import annotations

import math

import pytest
import torch

from vae_models.data.config import DataConfig
from vae_models.data.records import Dataset, Split
from vae_models.evaluation.likelihood import statistics
from vae_models.evaluation.likelihood.scale import Scale
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.recipes import catalogue
from vae_models.recipes.text import SMALL, text_vae

SCALE = Scale(measure="mass", levels=None, note="")


def test_it_is_of_the_totals_and_its_error_is_the_spread_over_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 20, (400, 500), generator=generator).double()
    nats = 4 * tokens + torch.randn(400, 500, generator=generator, dtype=torch.float64) * tokens.sqrt()
    values = [statistics.perplexity("p", nats[i], tokens[i], SCALE) for i in range(400)]
    assert values[0].value == pytest.approx(math.exp(float(nats[0].sum() / tokens[0].sum())))
    spread = torch.tensor([value.value for value in values]).std()
    stated = torch.tensor([value.error for value in values]).mean()
    assert float(stated / spread) == pytest.approx(1, abs=0.15)


def test_a_model_that_knows_nothing_has_the_vocabularys_size() -> None:
    """Logits of zero: each of 6,000 tokens is as likely; <bos> is given, and <pad> is none."""
    config = text_vae(SMALL, catalogue()["tinyshakespeare/text-vae"].build().beta, epochs=1)
    assert config.data == DataConfig(name="tinyshakespeare")
    lengths = torch.tensor([3, 23, 10, 7])
    x = torch.full((4, 23), 5, dtype=torch.int32)
    x[:, 0] = 1
    split = Split(x=x.where(torch.arange(23) < lengths[:, None], 0), lengths=lengths)
    data = Dataset(name="tinyshakespeare", train=split, val=split, test=split, shape=(23,))
    model = config.model.build((23,))
    for parameter in (*model.decoder.output.parameters(), *model.encoder.head.parameters()):
        torch.nn.init.zeros_(parameter)
    plan = EvaluationPlan.model_validate(
        {"evaluators": [{"kind": "likelihood"}, {"kind": "nll", "samples": 30}], "batch_size": 3}
    )
    subject = Subject(model, config, data, plan)
    try:
        findings = evaluate(subject)
    finally:
        subject.close()
    values = {value.name: value for each in findings.values() for value in each.values}
    assert values["perplexity"].value == pytest.approx(6_000, rel=1e-5)
    assert values["nll_30/perplexity"].value == pytest.approx(6_000, rel=1e-5)
    assert values["bits_per_dim"].value == pytest.approx(math.log2(6_000), rel=1e-6)
