"""`vaesvc reproduce` as a real command: a whole reproduction in seconds, an interruption, and mistakes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.command import start, vaesvc

TINY = """
from tuning.reproductions.changes import mlp, recipe
from tuning.reproductions.claims import Less
from tuning.reproductions.entry import Column, Reproduction, Setup
from tuning.reproductions.readings import Evaluated, Logged
from vae_models.evaluation.specs import EvaluationPlan

SHORT = {"model.backbone": mlp(32), "log_every_steps": 10, "checkpoint.every_steps": 50}


def build(scale):
    runs = {name: recipe("digits/beta-vae-mlp", {**SHORT, "steps": steps}) for name, steps in STEPS.items()}
    runs["celeba"] = recipe("celeba-hq/ar-elbo-iso-i", {"steps": 1})  # nobody can fetch it by a program
    elbo = {name: Logged(run=name, metric="test/elbo", factor=-1.0) for name in runs}
    return Setup(
        rows={name: name for name in runs},
        runs=runs,
        cells={
            **{(name, "bound"): each for name, each in elbo.items()},
            ("long", "units"): Evaluated(run="long", value="active_units"),
        },
        claims=(
            Less(text="longer is better", place="table 1", low=("long", "bound"), high=("short", "bound")),
            Less(text="faces are worse", place="table 1", low=("long", "bound"), high=("celeba", "bound")),
        ),
        seeds=2,
        plan=EvaluationPlan.model_validate({"evaluators": [{"kind": "latent"}], "limit": 100}),
    )


STEPS = {"short": 5, "long": LONG}
TINY = Reproduction(
    name="tiny/table-1",
    summary="Longer is better.",
    columns=(Column(name="bound", heading="-ELBO [nats]"), Column(name="units", heading="active units")),
    paper={("short", "bound"): 100.0},
    build=build,
)
"""


@pytest.fixture
def tiny(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment with a package that brings a reproduction, and without faces."""
    site = tmp_path / "site"
    for version in ("tiny-1.0.dist-info",):
        (site / version).mkdir(parents=True)
        (site / version / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        (site / version / "entry_points.txt").write_text("[vaesvc.parts]\nreproduction.tiny/table-1 = tiny:TINY\n")
    (site / "tiny.py").write_text(TINY.replace("LONG", "300", 1))
    empty = tmp_path / "no-data"
    empty.mkdir()
    return env | {
        "PYTHONPATH": str(site), "VAESVC_DATA_DIR": str(empty), "VAESVC_CACHE_DIR": str(tmp_path / "cache"),
    }  # fmt: skip


def test_a_reproduction_from_the_command_to_its_page(tiny: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = vaesvc(tiny, "reproduce", "tiny", "table-1", "--out", str(out), seconds=240)
    assert "| longer is better | table 1 | **holds** |" in done.stdout
    assert "| faces are worse | table 1 | **not measured** | data not here: celeba-hq: " in done.stdout
    result = json.loads((out / "tiny-table-1-small" / "result.json").read_text())
    cells = {(cell["row"], cell["column"]): cell for cell in result["cells"]}
    assert cells["short", "bound"]["paper"] == 100.0
    assert len(cells["long", "bound"]["ours"]) == 2
    long, short = (cells[run, "bound"]["ours"] for run in ("long", "short"))
    assert all(after < before for after, before in zip(long, short, strict=True))
    assert "celeba" in cells["celeba", "bound"]["missing"]
    page = (out / "tiny-table-1-small" / "result.md").read_text()
    assert "`vaesvc reproduce tiny table-1 --scale small`" in page
    logs = {path: path.stat().st_mtime_ns for path in out.glob("trained/*/metrics.jsonl")}
    again = vaesvc(tiny, "reproduce", "tiny", "table-1", "--out", str(out), seconds=120)
    assert again.stdout == done.stdout
    assert {path: path.stat().st_mtime_ns for path in out.glob("trained/*/metrics.jsonl")} == logs  # not trained again


def test_interrupted_it_goes_on_and_ends_with_the_same_numbers(tiny: dict[str, str], tmp_path: Path) -> None:
    site = Path(tiny["PYTHONPATH"])
    (site / "tiny.py").write_text(TINY.replace("LONG", "800", 1))
    arguments = ("reproduce", "tiny", "table-1", "--seeds", "1", "--json", "--out")
    process = start(tiny, *arguments, str(tmp_path / "cut"))
    deadline = time.monotonic() + 120
    while not _steps(tmp_path / "cut") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Go on with the same command" in said
    assert "Traceback" not in said
    whole = json.loads(vaesvc(tiny, *arguments, str(tmp_path / "cut"), seconds=240).stdout)
    straight = json.loads(vaesvc(tiny, *arguments, str(tmp_path / "straight"), seconds=240).stdout)
    assert whole["cells"] == straight["cells"]


def _steps(out: Path) -> bool:
    """Whether the long run is on its way, some logs behind it."""
    return any(len(path.read_text().splitlines()) > 5 for path in out.glob("trained/digits-*/metrics.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mr-vea", "table-1"), "did you mean mr-vae table-1?"),
        (("mr-vae", "table-11"), "did you mean mr-vae table-1?"),
        (("mr-vae",), "say which of mr-vae"),
        (("mr-vae", "table-1", "--scale", "big"), "there are small and paper"),
    ],
)
def test_a_mistake_is_answered_with_what_there_is(env: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    done = vaesvc(env, "reproduce", *arguments, code=2)
    assert said in done.stderr


def test_list_has_every_reproduction_and_table_1_needs_no_training(env: dict[str, str], tmp_path: Path) -> None:
    listed = json.loads(vaesvc(env, "reproduce", "list", "--json").stdout)
    assert {"mr-vae/table-1", "ar-elbo/table-3"} <= {entry["name"] for entry in listed}
    done = vaesvc(env, "reproduce", "mr-vae", "Table 1", "--out", str(tmp_path))
    assert "| MNIST & Omniglot, CNN | 17.53 | 17.527 | 17.88 | 17.885 | 2.04 | 2.04 |" in done.stdout
