"""`vaesvc study` as a person uses it: what is there, what would run, the run, Ctrl-C in the middle, and mistakes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.command import RECIPE, start, vaesvc

STUDY = {
    "base": {"recipe": RECIPE, "epochs": 3, "evaluation": {"pictures": False}},
    "stages": [
        {"name": "rates", "space": {"optimizer.lr": [0.0001, 0.01]}, "repeats": [0, 1]},
        {"name": "betas", "space": {"beta.value": {"kind": "log-uniform", "low": 0.1, "high": 10, "points": 3}}},
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    return path


def test_the_papers_searches_are_listed(env: dict[str, str]) -> None:
    shown = vaesvc(env, "study", "list", "mr-vae").stdout
    assert "searches/binarized-mnist/mr-vae-cnn" in shown
    assert "pendulum" not in shown
    found = json.loads(vaesvc(env, "study", "list", "--json").stdout)
    assert {"MR-VAE", "sigma-VAE", "VHP", "AR-ELBO"} == {one["paper"] for one in found}


def test_dry_run_shows_every_trial_and_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    arguments = ("study", "run", "searches/binarized-mnist/beta-vae-cnn", "--dry-run")
    arguments += ("--set", "batch_size=8", "--out", str(tmp_path / "out"))
    shown = vaesvc(env, *arguments).stdout
    assert "rates: 21 trials, 7 x 3 seeds, best val/elbo (max)" in shown
    assert "betas: 30 trials, 10 x 3 seeds" in shown
    assert not (tmp_path / "out").exists()


def test_it_runs_says_who_won_and_is_not_run_twice(env: dict[str, str], file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = vaesvc(env, "study", "run", str(file), "--out", str(out), "--set", "rates.repeats=[3, 4, 5]")
    assert "rates: 6 of 6 trials ended, best val/elbo first" in done.stdout
    assert "winner: optimizer.lr=0.01" in done.stdout
    assert (out / "rates" / "curve.png").stat().st_size > 5_000
    assert (out / "betas" / "curve.png").stat().st_size > 5_000
    began = time.monotonic()
    shown = vaesvc(env, "study", "show", str(out)).stdout
    assert shown == done.stdout
    assert time.monotonic() - began < 60
    (rates, betas) = json.loads(vaesvc(env, "study", "show", str(out), "--json").stdout)
    best = rates["candidates"][0]
    assert (rates["winner"], best["assignment"], best["complete"]) == (best["number"], {"optimizer.lr": 0.01}, True)
    assert [trial["state"] for trial in rates["trials"]] == ["done"] * 6
    assert len(betas["candidates"]) == 3
    other = vaesvc(env, "study", "run", str(file), "--out", str(out), code=2)
    assert "begun with another study" in other.stderr


def test_ctrl_c_stops_after_checkpoints_and_the_same_command_goes_on(
    env: dict[str, str], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("study", "run", str(file), "--out", str(out), "--set", "epochs=25")
    process = start(env, *arguments)
    deadline = time.monotonic() + 60
    while not list(out.glob("rates/trial-*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "Stopping after a checkpoint" in said
    assert list(out.glob("rates/trial-*/checkpoints/step-*")), said
    done = vaesvc(env, *arguments)
    assert "rates: 4 of 4 trials ended" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("searches/mnist/linear-va",), ("did you mean searches/mnist/linear-vae",)),
        (("--set", "optimizr.lr=1"), ("there is no optimizr", "optimizer")),
        (("--set", "rates.space={optimizer.rl: [1]}"), ("optimizer.rl", "there are: kind, lr")),
        (("--set", "rates.metric=val/accuracy"), ("val/accuracy is not measured", "val/elbo")),
        (("--set", "rates.repeats=[]"), ("repeats",)),
        (("--set", "epochs"), ("path=value",)),
    ],
)
def test_mistakes_are_named_before_anything_runs(
    env: dict[str, str], file: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    source = () if arguments[0].startswith("searches/") else (str(file),)
    done = vaesvc(env, "study", "run", *source, *arguments, "--out", str(tmp_path / "out"), code=2)
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_search_is_not_one_run(env: dict[str, str], file: Path) -> None:
    assert f"vaesvc study run {file}" in vaesvc(env, "run", str(file), code=2).stderr
    name = "searches/mnist/linear-vae"
    assert f"vaesvc study run {name}" in vaesvc(env, "run", name, code=2).stderr
    assert "is a training run, not a study" in vaesvc(env, "study", "run", RECIPE, code=2).stderr


def test_submit_shows_what_a_study_would_run(env: dict[str, str], file: Path) -> None:
    shown = vaesvc(env, "submit", str(file), "--dry-run", "--set", "rates.repeats=[3, 4]").stdout
    assert "rates: 4 trials, 2 x 2 seeds" in shown
    assert "at most" in shown
    spec = json.loads(vaesvc(env, "submit", str(file), "--dry-run", "--json", "--workers", "2").stdout)
    assert (spec["kind"], spec["name"], spec["resources"]["workers"]) == ("study", "rates", 2)
    again = file.with_suffix(".json")
    again.write_text(json.dumps(spec))
    assert json.loads(vaesvc(env, "submit", str(again), "--dry-run", "--json").stdout) == spec


def test_a_study_that_nobody_wins_says_so(env: dict[str, str], file: Path, tmp_path: Path) -> None:
    rates = ("--set", "rates.space={optimizer.lr: [1.0e+30]}")
    done = vaesvc(env, "study", "run", str(file), "--out", str(tmp_path / "out"), *rates, code=1)
    assert "winner: none" in done.stdout
    assert "betas" not in done.stdout
