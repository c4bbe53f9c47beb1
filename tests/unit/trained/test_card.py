"""A model card has the model's facts, its numbers with their errors, and a program that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests import trained_models
from vae_models.data.published import Published
from vae_models.data.sources import SOURCES
from vae_models.evaluation.findings import Findings, Value
from vae_models.trained import Trained
from vae_models.trained.card import Evaluated, card


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = trained_models.pulled(tmp_path_factory.mktemp("card") / "model", trained_models.config_of())
    return Trained.load(folder)


def rows(text: str) -> dict[str, list[str]]:
    """Of every table, by their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells}


def test_it_has_what_the_model_is_and_what_it_was_trained_on(model: Trained) -> None:
    found = rows(card(model, "Digits", load="./model", more={"version": "3"}))
    expected = {
        "version": "3",
        "likelihood": "gaussian: sigma 0.1, link sigmoid",
        "latents": "z [16]",
        "set": "digits",
        "a datum": "channel 1 x height 8 x width 8",
        "licence": "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
        "these weights": "of step 7",
        "seed": "0",
    }
    assert {name: found[name] for name in expected} == {name: [value] for name, value in expected.items()}
    assert int(found["parameters"][0].replace(",", "")) == sum(each.numel() for each in model.model.parameters())
    assert found["val/elbo"] == ["-12.5", "nats per datum"]


def test_numbers_have_their_errors_and_units(model: Trained) -> None:
    nll = Value(name="nll_500", value=-12.34567, error=0.0321, unit="nats per datum", measure="density", count=250)
    exact = Value(name="active_units", value=11.0, unit="dimensions", count=250)
    found = {"likelihood-0": Findings(values=(nll, exact)).plain()}
    text = card(model, "Digits", load="./model", evaluated=[Evaluated(split="test", findings=found)])
    assert rows(text)["test/nll_500"] == ["-12.346", "0.032", "nats per datum of a density", "250"]
    assert rows(text)["test/active_units"] == ["11", "-", "dimensions", "250"]
    assert text == card(model, "Digits", load="./model", evaluated=[Evaluated(split="test", findings=found)])


def test_its_program_runs_as_it_stands(model: Trained) -> None:
    assert model.origin is not None
    folder = model.origin.folder
    assert Path(folder).is_absolute()
    (program,) = re.findall(r"```python\n(.*?)```", card(model, "Digits", load=str(folder)), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["samples"].shape == (16, 1, 8, 8)
    assert names["std"].shape == (1, 16)


def test_every_published_set_says_under_which_terms_it_is() -> None:
    published = [source for source in SOURCES.all().values() if isinstance(source, Published)]
    assert published
    assert not [source.name for source in published if not source.terms]
