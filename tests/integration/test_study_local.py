"""A study in a folder, on real data: stages, a diverging trial, early stops, an end that no kill changes."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import command
from tests.servers import wait_for
from tuning.local import StageResult, run_study
from tuning.study import StudyConfig, Trial
from vae_models.training.context import LocalContext
from vae_models.training.errors import CheckpointError
from vae_models.training.loop import train

BASE: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {
        "latent": 4, "backbone": {"kind": "mlp", "hidden": [32]}, "likelihood": {"kind": "gaussian", "sigma": 0.2},
    },
    "epochs": 4,
    "batch_size": 64,
    "evaluation": {"pictures": False, "test": False},
    "checkpoint": {"every_steps": 10},
}  # fmt: skip
RATES: dict[str, Any] = {"name": "rates", "space": {"optimizer.lr": [1e-4, 1e-2, 1e30]}, "repeats": [0, 1]}
BETAS: dict[str, Any] = {"name": "betas", "space": {"beta.value": [0.1, 1.0]}, "metric": "val/rate", "mode": "min"}


def study(*stages: dict[str, Any], **base: Any) -> StudyConfig:
    return StudyConfig.model_validate({"base": BASE | base, "stages": stages})


def table(results: Sequence[StageResult]) -> list[list[tuple[Any, ...]]]:
    return [
        [(c.number, c.states, c.complete, c.mean and pytest.approx(c.mean, rel=1e-4)) for c in result.ranked]
        for result in results
    ]


def test_two_stages_of_which_one_trial_diverges(tmp_path: Path) -> None:
    rates, betas = run_study(study(RATES, BETAS), tmp_path)
    assert [c.assignment["optimizer.lr"] for c in rates.ranked] == [1e-2, 1e-4, 1e30]
    assert rates.ranked[2].states == ("failed", "failed")
    assert "step" in str(rates.outcomes[4].error)
    assert rates.winner is not None
    assert rates.winner.standard_error is not None
    assert betas.winner is not None
    assert betas.winner.assignment == {"beta.value": 1.0}
    assert {trial.config.optimizer.lr for trial in betas.trials} == {1e-2}
    again = run_study(study(RATES, BETAS), tmp_path)
    assert table(again) == table([rates, betas])


def test_a_study_whose_every_trial_fails_ends_there(tmp_path: Path) -> None:
    (only,) = run_study(study(RATES | {"space": {"optimizer.lr": [1e29, 1e30]}}, BETAS), tmp_path)
    assert only.winner is None
    assert {outcome.state for outcome in only.outcomes.values()} == {"failed"}


def test_halving_stops_what_is_behind(tmp_path: Path) -> None:
    rates = {"optimizer.lr": [1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2]}
    (found,) = run_study(study(RATES | {"space": rates, "pruning": {"kind": "halving", "factor": 2}}), tmp_path)
    assert [candidate.states[0] for candidate in found.ranked].count("done") == 1
    assert [candidate.states[0] for candidate in found.ranked].count("pruned") == 5
    assert found.winner is not None
    assert found.winner.assignment["optimizer.lr"] >= 1e-3
    steps = [
        json.loads((tmp_path / "rates" / f"trial-{n:04d}" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        for n in range(12)
    ]
    assert sorted(set(steps)) == [21, 41, 81]  # after 1, 2 and 4 epochs of 1,297 / 64 steps


SCRIPT = """
import sys
from pathlib import Path
from tuning.local import run_study
from tuning.study import StudyConfig
run_study(StudyConfig.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), width=3)
"""


GROWN: dict[str, Any] = {
    "name": "grown",
    "space": {"optimizer.lr": {"kind": "log-uniform", "low": 1e-6, "high": 1e-2}},
    "search": {"kind": "population", "size": 4, "generations": 3, "epochs": 2.0, "resample": 0.0},
}


def test_a_population_hands_on_weights(tmp_path: Path) -> None:
    """Who is never replaced is trained as ever; who is goes on from another's weights, with numbers near its own."""
    (found,) = run_study(study(GROWN), tmp_path, width=1)
    assert {outcome.state for outcome in found.outcomes.values()} == {"done"}
    assert [outcome.steps for outcome in found.outcomes.values()] == [41] * 4 + [81] * 4 + [122] * 4
    by_key = {trial.key: trial for trial in found.trials}

    def chain(trial: Trial) -> list[Trial]:
        return [trial] if trial.origin is None else [*chain(by_key[trial.origin]), trial]

    chains = [chain(trial) for trial in found.trials[-4:]]
    kept = next(one for one in chains if len({trial.config.optimizer.lr for trial in one}) == 1)
    alone = tmp_path / "alone"
    result = train(kept[-1].config, LocalContext(alone))
    assert result.metrics["val/elbo"] == found.outcomes[kept[-1].number].value
    handed = next(one for one in chains if len({trial.config.optimizer.lr for trial in one}) > 1)
    place = next(i for i in range(1, 3) if handed[i].config.optimizer.lr != handed[i - 1].config.optimizer.lr)
    ratio = handed[place].config.optimizer.lr / handed[place - 1].config.optimizer.lr
    assert min(abs(ratio - factor) for factor in (0.8, 1.2)) < 1e-9
    handed_steps = [found.outcomes[trial.number].steps for trial in handed]
    lines = (tmp_path / "grown" / f"trial-{handed[place].number:04d}" / "metrics.jsonl").read_text().splitlines()
    assert min(json.loads(line)["step"] for line in lines) > handed_steps[place - 1]


def test_an_origin_that_is_gone_is_said(tmp_path: Path) -> None:
    """It does not start from zero as if nothing had been."""
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="other has no whole checkpoint to start from"):
        train(study(GROWN).base, LocalContext(tmp_path / "run", start_from=tmp_path / "other"))


def kill_when(spec: Path, out: Path, name: str) -> None:
    """Start the study, or go on with it, and kill it as soon as there is a file of this name."""
    process = command.python(SCRIPT, str(spec), str(out))

    def reached() -> bool:
        with contextlib.suppress(FileNotFoundError):  # folders come and go while it is looked for
            return any(out.rglob(name)) or process.poll() is not None
        return False

    wait_for(reached, 120, f"there is no {name}", every=0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"


@pytest.mark.parametrize("kind", ["none", "halving", "population"])
def test_killed_twice_it_ends_the_same(tmp_path: Path, kind: str) -> None:
    first = GROWN if kind == "population" else RATES | {"pruning": {"kind": kind}}
    config = study(first, BETAS, epochs=8.0)
    undisturbed = table(run_study(config, tmp_path / "undisturbed", width=3))
    spec, out = tmp_path / "study.json", tmp_path / "killed"
    spec.write_text(config.model_dump_json())
    kill_when(spec, out, "metrics.jsonl")  # while the first trials train
    kill_when(spec, out, "result.json")  # when one has ended
    assert table(run_study(config, out, width=3)) == undisturbed


def test_two_data_sets_are_two_packs(tmp_path: Path) -> None:
    data = {"name": "data", "space": {"data.name": ["digits", "pendulum"]}, "metric": "val/rate", "mode": "min"}
    (found,) = run_study(study(data, epochs=1.0), tmp_path)
    assert found.winner is not None
    assert [outcome.state for outcome in found.outcomes.values()] == ["done", "done"]
