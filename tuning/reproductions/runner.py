"""A reproduction from its start, or from where it was interrupted, to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from tuning.local import StudyProgress
from tuning.reproductions.claims import Cell, judge
from tuning.reproductions.entry import Reproduction, Scale, Setup
from tuning.reproductions.readings import Trained, Unmeasured
from tuning.reproductions.results import Results
from tuning.reproductions.training import Interrupted, NotTrained, RunFolder, Runs
from tuning.space import Assignment, with_values
from vae_models.config import size
from vae_models.config.train import TrainConfig
from vae_models.data.errors import DataError
from vae_models.evaluation.findings import NotFinite
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Inapplicable, Stopped
from vae_models.records import Progress
from vae_models.training.errors import NonFiniteLoss

TRAINED, CHOICES = "trained", "choices"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How far a reproduction is. seconds_left: of the training; None before the first step."""

    run: str
    ended: int
    runs: int
    share: float
    seconds_left: float | None


def folder_of(entry: Reproduction, scale: Scale, out: Path) -> Path:
    """Return where a reproduction's result is written: trained runs are beside it, and are shared by all."""
    return out / f"{entry.name.replace('/', '-')}-{scale}"


def reproduce(
    entry: Reproduction,
    scale: Scale,
    out: Path,
    *,
    seeds: int | None = None,
    device: torch.device | str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
    on_pace: Callable[[Pace], None] = lambda pace: None,
    elsewhere: Callable[[Callable[[Progress], None]], Runs] | None = None,
) -> Results:
    """Train what is not trained yet, evaluate it, judge the claims and write the result.

    out: everything is kept there; a second call goes on from what it finds. seeds: in place of the scale's. elsewhere:
    where runs are trained and evaluated if not in this process; it is given what to tell a run's progress. What cannot
    be trained there (data that are not there, a loss that is not finite) is missing in the result, with the reason.
    Raise `training.Interrupted` when asked to stop.
    """
    setup = entry.build(scale)
    meter = _PaceMeter(on_pace)
    if elsewhere is None:
        kept: Runs = RunFolder(
            folder=out / TRAINED, choices=out / CHOICES, device=device, stop=stop, say=say, show=meter.show
        )
    else:
        kept = elsewhere(meter.show)
    trainings = _Trainings(setup=setup, seeds=range(seeds or setup.seeds), kept=kept, meter=meter)
    trainings.choose()
    trained = trainings.train()
    cells, missing = _cells(setup, trained, trainings.missing)
    results = Results(
        entry=entry,
        scale=scale,
        setup=setup,
        seeds=len(trainings.seeds),
        cells=cells,
        missing=missing,
        chosen=trainings.chosen,
        verdicts=tuple(judge(claim, cells, missing) for claim in setup.claims),
        trained=trained,
    )
    results.write(folder_of(entry, scale, out))
    return results


@dataclass(kw_only=True)
class _Trainings:
    """What is trained: every run with every seed, seed by seed, so that an early look shows whole tables."""

    setup: Setup
    seeds: range
    kept: Runs
    meter: _PaceMeter
    chosen: dict[str, Assignment] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # run -> why it is not there

    def choose(self) -> None:
        """Run the studies that choose numbers, each once."""
        for name, choice in self.setup.choices.items():
            try:
                chosen = self.kept.choose(choice, partial(self.meter.study, name))
            except DataError as error:
                self._without(name, f"data not here: {error}")
                continue
            except NotTrained as error:
                self._without(name, f"nothing could be chosen for {name}: {error}")
                continue
            if chosen is None:
                self._without(name, f"nothing could be chosen for {name}: every trial failed for some seed")
            else:
                self.chosen[name] = chosen

    def _without(self, choice: str, reason: str) -> None:
        """Leave out the runs that need what could not be chosen."""
        self.missing |= {run: reason for run, of in self.setup.chosen_for.items() if of == choice}

    def config(self, run: str, seed: int) -> TrainConfig:
        """Return a run's configuration with what was chosen, and the seed."""
        chosen = self.chosen.get(self.setup.chosen_for.get(run, ""), {})
        return with_values(self.setup.runs[run], {**chosen, "seed": seed})

    def train(self) -> list[dict[str, Trained]]:
        """Return what every run left, by its name, for each seed."""
        order = [(seed, run) for seed in self.seeds for run in self.setup.runs if run not in self.missing]
        configs = {(seed, run): self.config(run, seed) for seed, run in order}
        self.kept.prepare([(config, self._plan(run)) for (_, run), config in configs.items()])
        self.meter.start(configs, self.kept)
        trained: list[dict[str, Trained]] = [{} for _ in self.seeds]
        for seed, run in order:
            if run not in self.missing:
                self._one(trained[seed], seed, run)
        return trained

    def _one(self, into: dict[str, Trained], seed: int, run: str) -> None:
        if self.kept.stop():
            raise Interrupted("stopped between two runs")
        self.meter.begin((seed, run))
        try:
            into[run] = self.kept.trained(self.config(run, seed), self._plan(run), self.setup.measures)
        except DataError as error:
            self.missing[run] = f"data not here: {error}"
        except NonFiniteLoss as error:
            self.missing[run] = f"seed {seed} ended: {error}"
        except NotTrained as error:
            self.missing[run] = f"seed {seed}: {error}"
        except (Inapplicable, NotFinite) as error:
            self.missing[run] = str(error)
        except Stopped as error:
            raise Interrupted(f"stopped while evaluating {run}: {error}") from error
        finally:
            self.meter.end((seed, run))

    def _plan(self, run: str) -> EvaluationPlan | None:
        return self.setup.plans.get(run, self.setup.plan)


def _cells(
    setup: Setup, trained: list[dict[str, Trained]], absent: Mapping[str, str]
) -> tuple[dict[Cell, tuple[float, ...]], dict[Cell, str]]:
    """Return each cell's numbers, one for each seed, and why those are missing that are."""
    cells: dict[Cell, tuple[float, ...]] = {}
    missing: dict[Cell, str] = {}
    for cell, reading in setup.cells.items():
        reasons = [absent[run] for run in reading.runs if run in absent]
        if reasons:
            missing[cell] = reasons[0]
            continue
        try:
            values = (reading(of_seed) for of_seed in (trained if reading.runs else trained[:1]))
            cells[cell] = tuple(values)
        except Unmeasured as error:
            missing[cell] = str(error)
    return cells, missing


Place = tuple[int, str]  # (seed, run)


class _PaceMeter:
    """Tells the pace: seconds per step of each configuration, as measured, or of all where it was not trained yet."""

    def __init__(self, tell: Callable[[Pace], None]) -> None:
        self._tell = tell
        self._steps: dict[Place, float] = {}
        self._ended: set[Place] = set()
        self._current: Place | None = None
        self._began = 0.0
        self._first: int | None = None
        self._spent: dict[str, tuple[float, float]] = {}  # run -> (seconds, steps)

    def start(self, configs: Mapping[Place, TrainConfig], kept: Runs) -> None:
        """Begin with what is to be done; what is done already costs nothing."""
        self._steps = {place: size.steps(config) for place, config in configs.items()}
        self._ended = {place for place, config in configs.items() if kept.is_done(config)}

    def study(self, name: str, now: StudyProgress) -> None:
        """Tell of a study that chooses a number: its own trials are counted."""
        share = now.ended / max(1, now.trials)
        self._tell(Pace(run=name, ended=now.ended, runs=now.trials, share=share, seconds_left=now.seconds_left))

    def begin(self, place: Place) -> None:
        self._current, self._began, self._first = place, time.monotonic(), None

    def show(self, progress: Progress) -> None:
        """Tell how far the present run is."""
        if self._current is None:  # a trial of a study has its own progress
            return
        if self._first is None:
            self._first, self._began = progress.step, time.monotonic()
        self._report(progress.step)

    def end(self, place: Place) -> None:
        if place not in self._ended and self._first is not None:
            seconds, steps = self._spent.get(place[1], (0.0, 0.0))
            done = self._steps[place] - self._first
            self._spent[place[1]] = (seconds + time.monotonic() - self._began, steps + done)
        self._ended.add(place)
        self._report(0)

    def _report(self, step: float) -> None:
        left = dict(self._left(step))
        total = sum(self._steps.values()) or 1.0
        self._tell(
            Pace(
                run="" if self._current is None else f"{self._current[1]}, seed {self._current[0]}",
                ended=len(self._ended),
                runs=len(self._steps),
                share=1 - sum(left.values()) / total,
                seconds_left=self._seconds(left, step),
            )
        )

    def _left(self, step: float) -> Iterator[tuple[Place, float]]:
        """Yield the steps that are left of each run that has not ended."""
        for place, steps in self._steps.items():
            if place not in self._ended:
                yield place, steps - (step if place == self._current else 0)

    def _seconds(self, left: Mapping[Place, float], step: float) -> float | None:
        spent = dict(self._spent)
        if self._current is not None and self._current not in self._ended and step > (self._first or 0):
            seconds, steps = spent.get(self._current[1], (0.0, 0.0))
            spent[self._current[1]] = (seconds + time.monotonic() - self._began, steps + step - (self._first or 0))
        all_seconds, all_steps = (sum(part) for part in zip(*spent.values(), strict=True)) if spent else (0.0, 0.0)
        if not all_steps:
            return None
        paces = {run: seconds / steps for run, (seconds, steps) in spent.items() if steps}
        return sum(steps * paces.get(run, all_seconds / all_steps) for (_, run), steps in left.items())
