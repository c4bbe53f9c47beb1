"""Sources of installed packages: trained on by their names, listed, and named where they keep no promise of the seam.

The packages are real ones: a folder with a module and its metadata on the path, as an installer leaves them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.command import RECIPE, vaesvc

MODULE = """
from vae_models.data.spec import DataSpec

IMAGES = DataSpec(shape=(1, 5, 4), axes=("channel", "height", "width"), support="bytes", sizes=(40, 8, 8))


class Stripes:
    '''Rows that are bright or dark.'''

    name = "stripes"
    facts = IMAGES

    def load(self, places, *, progress=None, policy=None):
        import torch
        from vae_models.data.records import Dataset, Split

        rows = torch.arange(56).reshape(56, 1, 1, 1) % 5 == torch.arange(5).reshape(1, 1, 5, 1)
        x = rows.expand(56, 1, 5, 4).to(torch.uint8) * 255
        train, val, test = (Split(x=part.contiguous()) for part in x.split(self.facts.sizes))
        return Dataset(name=self.name, train=train, val=val, test=test, shape=self.facts.shape)


class Digits(Stripes):
    name = "digits"


class Factless(Stripes):
    name, facts = "factless", (1, 5, 4)


class Silent:
    name, facts = "silent", IMAGES


GOOD = Stripes()
BAD = (Stripes(), Factless())
TAKEN, FACTLESS, SILENT = Digits(), Factless(), Silent()
"""
ENTRIES = {"data-source.stripes": "GOOD", "data-source.digits": "TAKEN", "data-source.silent": "SILENT"}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With a package of somebody's installed."""
    path = tmp_path_factory.mktemp("packages")
    (path / "striped.py").write_text(MODULE)
    info = path / "striped-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: striped\nVersion: 2.1\n")
    named = [f"{name} = striped:{value}" for name, value in (ENTRIES | {"data-source.factless": "BAD"}).items()]
    (info / "entry_points.txt").write_text("\n".join(["[vaesvc.parts]", *named]))
    home = {"VAESVC_HOME": str(path / "home"), "VAESVC_CACHE_DIR": str(path / "cache")}
    return os.environ | home | {"PYTHONPATH": str(path)}


def test_a_packages_set_is_trained_on_by_its_name(env: dict[str, str], tmp_path: Path) -> None:
    vaesvc(
        env,
        "run",
        RECIPE,
        "--set",
        "data.name=stripes",
        "--set",
        "steps=2",
        "--set",
        "batch_size=8",
        "--out",
        str(tmp_path / "run"),
    )
    (state,) = (tmp_path / "run" / "checkpoints").glob("step-*/config.json")
    data = json.loads(state.read_text())["data"]
    assert (data["name"], data["digest"], data["facts"]["shape"]) == ("stripes", None, [1, 5, 4])


def test_its_facts_are_known_before_it_is_loaded(env: dict[str, str]) -> None:
    said = vaesvc(env, "run", RECIPE, "--set", "data.name=stripes", "--set", "batch_size=41", code=2).stderr
    assert "batch_size: 41 is more than the 40 training data of stripes" in said
    said = vaesvc(env, "run", RECIPE, "--set", "data.name=strips", code=2).stderr
    assert "did you mean stripes?" in said


def test_what_keeps_no_promise_is_named_and_nothing_of_it_is_taken(env: dict[str, str]) -> None:
    listed = json.loads(vaesvc(env, "parts", "data-source", "--json").stdout)["data-source"]
    kinds = [part["kind"] for part in listed["parts"]]
    assert "stripes" in kinds
    assert not {"factless", "silent"} & set(kinds)
    reasons = {broken["entry"]: broken["reason"] for broken in listed["broken"]}
    assert "digits' is there already" in reasons["data-source.digits"]
    assert "its `facts` are no DataSpec" in reasons["data-source.factless"]
    assert "has no method `load" in reasons["data-source.silent"]
    said = vaesvc(env, "run", RECIPE, "--set", "data.name=silent", code=2).stderr
    assert "striped 2.1 could not be loaded" in said
