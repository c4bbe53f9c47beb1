"""The runs of reproductions: trained once, evaluated once, kept in a folder that all reproductions share.

DIR/<data>-<digest>/           one configuration with one seed, as `vaesvc run` keeps it: checkpoints, metrics.jsonl
DIR/<data>-<digest>/done.json       {"seconds", "steps"}: trained to its end
DIR/<data>-<digest>/evaluation/     findings, a folder for each evaluator
DIR/<data>-<digest>/measures.json   what measures gave, by the measure's name
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from tuning.local import StudyProgress, run_study
from tuning.reproductions.entry import Choice
from tuning.reproductions.readings import History, Trained
from tuning.space import Assignment
from tuning.study import StudyConfig
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.errors import DataError
from vae_models.data.records import Dataset
from vae_models.evaluation.findings import Picture
from vae_models.evaluation.kept import FolderKept
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan, chosen
from vae_models.evaluation.subject import Subject
from vae_models.records import Progress
from vae_models.training.checkpoint import MANIFEST, load_model
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

DONE, MEASURES = "done.json", "measures.json"
Measure = Callable[[Subject], Mapping[str, float]]


class Interrupted(Exception):  # noqa: N818 - says what is the case
    """Asked to stop: what is done is kept, and a second call goes on from there."""


class NotTrained(Exception):  # noqa: N818 - says what is the case
    """A run, or a study that chooses a number, that ended without a model: why."""


class Runs(Protocol):
    """Where runs are trained and evaluated: `RunFolder` is this process."""

    @property
    def stop(self) -> Callable[[], bool]:
        """Return what is asked about whether to stop."""
        ...

    def choose(self, choice: Choice, show: Callable[[StudyProgress], None]) -> Assignment | None:
        """Return what won the choice's study; None where every trial failed for some seed. Raise Interrupted,
        DataError, NotTrained.
        """
        ...

    def prepare(self, wanted: Sequence[tuple[TrainConfig, EvaluationPlan | None]]) -> None:
        """Be told of everything that `trained` will be asked for, in that order: some can begin at once."""
        ...

    def is_done(self, config: TrainConfig) -> bool:
        """Return whether the configuration was trained to its end before."""
        ...

    def trained(self, config: TrainConfig, plan: EvaluationPlan | None, measures: Sequence[str] = ()) -> Trained:
        """Return what a run of the configuration leaves: it is trained and evaluated as far as it was not.

        Raise Interrupted when asked to stop; NotTrained, DataError, TrainingError, Inapplicable.
        """
        ...


@dataclass(kw_only=True)
class RunFolder:
    """Trains and evaluates configurations in `folder`. Data sets are loaded once.

    stop: asked about once a second; say: is told what a user has to know; show: a run's progress; choices: the folder
    of the studies that choose numbers.
    """

    folder: Path
    choices: Path
    device: torch.device | str = "cpu"
    stop: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda text: None
    show: Callable[[Progress], None] = lambda progress: None
    _datasets: dict[str, Dataset] = field(default_factory=dict)
    _absent: dict[str, DataError] = field(default_factory=dict)

    def choose(self, choice: Choice, show: Callable[[StudyProgress], None]) -> Assignment | None:
        """Run the study, once, and return what won it. Raise as `Runs` says."""
        study = StudyConfig(base=choice.base, stages=(choice.stage,))
        result = run_study(
            study, self.choices / self.place(choice.base).name, device=self.device, stop=self.stop, say=self.say,
            dataset=self.dataset(choice.base.data), on_progress=show,
        )  # fmt: skip
        if self.stop():
            raise Interrupted("stopped while a number was chosen")
        winner = result[0].winner
        return None if winner is None else winner.assignment

    def prepare(self, wanted: Sequence[tuple[TrainConfig, EvaluationPlan | None]]) -> None:
        """Do nothing: one run is trained after the other."""

    def is_done(self, config: TrainConfig) -> bool:
        """Return whether the configuration was trained to its end before."""
        return (self.place(config) / DONE).exists()

    def place(self, config: TrainConfig) -> Path:
        """Return the folder of a configuration: a name of its own for each that has another result."""
        return self.folder / named(config)

    def trained(self, config: TrainConfig, plan: EvaluationPlan | None, measures: Sequence[str] = ()) -> Trained:
        """Return what a run of the configuration leaves: it is trained and evaluated as far as it was not.

        Raise Interrupted when asked to stop; DataError, TrainingError, Inapplicable as training and evaluation do.
        """
        folder = self.place(config)
        if not self.is_done(config):
            self._train(config, folder)
        done = json.loads((folder / DONE).read_text())
        values, pictures = self._found(config, folder, plan, measures)
        return Trained(
            config=config,
            folder=folder,
            seconds=done["seconds"],
            steps=done["steps"],
            history=_history(folder / "metrics.jsonl"),
            values=values,
            pictures=pictures,
        )

    def dataset(self, config: DataConfig) -> Dataset:
        """Return the data, loaded once, or looked for once: then the same DataError is raised again.

        The last two sets are kept: reproductions go over the data run by run.
        """
        name = config.model_dump_json(exclude={"residency"})
        if name in self._absent:
            raise self._absent[name]
        if name not in self._datasets:
            while len(self._datasets) > 1:
                self._datasets.pop(next(iter(self._datasets)))
            try:
                self._datasets[name] = data.load(config)
            except DataError as error:
                self._absent[name] = error
                raise
        return self._datasets[name]

    def _train(self, config: TrainConfig, folder: Path) -> None:
        dataset = self.dataset(config.data)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(config.model_dump_json(indent=1) + "\n")
        context = LocalContext(
            folder,
            device=self.device,
            keep_last=1,
            goal=config.checkpoint.goal,
            stop=self.stop,
            say=self.say,
            on_progress=self.show,
        )
        began = time.monotonic() - _spent(folder)
        result = train(config, context, dataset=dataset)
        seconds = time.monotonic() - began
        if result.stopped:
            _write(folder / "spent.json", seconds)
            raise Interrupted(f"stopped at step {result.steps:,} of {folder.name}")
        _write(folder / DONE, {"seconds": seconds, "steps": result.steps})

    def _found(
        self, config: TrainConfig, folder: Path, plan: EvaluationPlan | None, measures: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, Picture]]:
        """Return values of the plan's evaluators and of the measures, and evaluators' pictures.

        What is known is not computed again.
        """
        known = _measured(folder / MEASURES)
        wanted = [measure for measure in measures if measure not in known]
        kept = None if plan is None else self._kept(config, folder, plan)
        findings = {name: kept.get(name) for name in chosen(plan, config)} if plan and kept else {}
        if wanted or any(each is None for each in findings.values()):
            subject = self._subject(config, folder, plan)
            try:
                if kept is not None:
                    findings = dict(evaluate(subject, kept=kept, say=self.say))
                for measure in wanted:
                    known[measure] = dict(_function(measure)(subject))
                    _write(folder / MEASURES, known)
            finally:
                subject.close()
        every = [each for each in findings.values() if each is not None]
        values = {value.name: value.value for each in every for value in each.values}
        values |= {name: value for measure in measures for name, value in known[measure].items()}
        return values, {picture.name: picture for each in every for picture in each.pictures}

    def _kept(self, config: TrainConfig, folder: Path, plan: EvaluationPlan) -> FolderKept:
        weights = hashlib.sha256((_newest(folder) / MANIFEST).read_bytes()).hexdigest()
        return FolderKept(folder / "evaluation", weights=weights, plan=plan, evaluators=chosen(plan, config))

    def _subject(self, config: TrainConfig, folder: Path, plan: EvaluationPlan | None) -> Subject:
        model, _ = load_model(_newest(folder))
        return Subject(
            model, config, self.dataset(config.data), plan, device=torch.device(self.device),
            tick=lambda what, done, total: self.stop(),
        )  # fmt: skip


def named(config: TrainConfig) -> str:
    """Return a name of its own for each configuration that has another result: its data and a digest."""
    return f"{config.data.name}-{hashlib.sha256(config.identity().encode()).hexdigest()[:12]}"


def _newest(folder: Path) -> Path:
    """Return the last checkpoint of a run that was trained to its end."""
    return max((folder / "checkpoints").glob("step-*"))


def _function(name: str) -> Measure:
    module, _, function = name.partition(":")
    measure: Measure = getattr(importlib.import_module(module), function)
    return measure


def _history(path: Path) -> History:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["step"], line["metrics"]) for line in lines]


def _spent(folder: Path) -> float:
    """Return the seconds that earlier calls trained in this folder, as far as they ended with a checkpoint."""
    path = folder / "spent.json"
    return float(json.loads(path.read_text())) if path.exists() else 0.0


def _measured(path: Path) -> dict[str, dict[str, float]]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: Path, value: Any) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(value) + "\n")
    partial.replace(path)
