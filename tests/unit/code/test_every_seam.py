"""Own code in every seam: a part of `tests/plugins` is found in each, and does its work there.

A seam that is added has no trial here, and the first test says so.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from service import kinds, parts_view
from service.code.build import built
from service.code.wheel import unpack
from tests import subjects
from tests.unit.code.test_plugins import PLUGINS, SEAMS
from tuning.local import StageResult, run_study
from tuning.reproductions import REPRODUCTIONS
from tuning.reproductions.runner import reproduce
from tuning.searches import SEARCHES
from tuning.space import with_values
from vae_models import data, parts
from vae_models.config.train import TrainConfig
from vae_models.data.sources import SOURCES
from vae_models.evaluation.drawing import latents
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.parts import OURS
from vae_models.recipes import RECIPES
from vae_models.samplers.specs import SAMPLERS
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

PLAIN: Mapping[str, Any] = {  # what each trial of a training changes in one place; nothing but the data is own code
    "data": {"name": "rings"},
    "model": {"latent": 2, "backbone": {"kind": "mlp", "hidden": [8]}, "likelihood": {"kind": "gaussian"}},
    "batch_size": 64,
    "steps": 14,
    "log_every_steps": 1,
    "evaluation": {"pictures": False, "limit": 16, "test": False},
}
WHERE = {  # seam -> where a training names its part
    "likelihood": "model.likelihood", "prior": "model.prior", "posterior": "model.posterior",
    "backbone": "model.backbone", "topology": "model", "objective": "objective", "beta": "beta",
    "optimizer": "optimizer", "schedule": "schedule", "noise": "data.noise",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package is on the path as `--code` puts it there, and its parts are registered; both end with the module."""
    wheel = tmp_path_factory.mktemp("lighthouse")
    unpack(built(PLUGINS), wheel)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(wheel))
        importlib.invalidate_caches()
        parts.forget()
        yield
    parts.forget()
    for name in [name for name in sys.modules if name.partition(".")[0] == "lighthouse"]:
        del sys.modules[name]


def config(changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """PLAIN with whole parts in place of its own, by their paths."""
    plain = {name: dict(value) if isinstance(value, dict) else value for name, value in PLAIN.items()}
    for path, part in (changes or {}).items():
        *above, last = path.split(".")
        (plain[above[0]] if above else plain)[last] = part
    return TrainConfig.model_validate(plain)


def trained(config: TrainConfig, folder: Path) -> Run:
    run = Run(config, LocalContext(folder), data.load(config.data))
    run.run()
    return run


def weights(run: Run) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in run.module.state_dict().values()]


def is_trained_with(seam: str, kind: str, folder: Path) -> None:
    """Two runs with the part end with the same weights, and with others than a run without it."""
    part: dict[str, Any] = {"kind": kind} | ({"latent": 2} if seam == "topology" else {})
    if seam == "topology":
        part["likelihood"] = {"kind": "gaussian"}
    own = config({WHERE[seam]: part})
    first, again, plain = (trained(each, folder / str(n)) for n, each in enumerate((own, own, config())))
    assert weights(first) == weights(again) != weights(plain)
    assert all(tensor.isfinite().all() for tensor in first.module.state_dict().values())


def is_a_net_of_frames(seam: str, kind: str, folder: Path) -> None:
    """A video model learns with it, and has as many numbers as it says."""
    model = {"kind": "video", "context": 3, "latent": 2, "hidden": 8, "frame_net": {"kind": kind}}
    video = TrainConfig.model_validate({**PLAIN, "data": {"name": "moving-digits"}, "model": model, "steps": 3})
    run = trained(video, folder)
    net, spec = cast(Any, run.model).frames, cast(Any, video.model).frame_net
    assert type(net.encoder).__module__ == "lighthouse.flat_nets"
    assert sum(each.numel() for each in net.parameters()) == spec.weights((1, 16, 16), 1)
    assert all(tensor.isfinite().all() for tensor in run.module.state_dict().values())


def is_a_source(seam: str, kind: str, folder: Path) -> None:
    source = SOURCES.get(kind)
    loaded = data.load(config().data)
    assert config().data.facts == source.facts
    assert tuple(len(split) for split in (loaded.train, loaded.val, loaded.test)) == source.facts.sizes
    assert tuple(loaded.shape) == source.facts.shape


def is_measured(seam: str, kind: str, folder: Path) -> None:
    changed = config({"evaluation": {**PLAIN["evaluation"], "measures": [kind]}})
    assert f"val/{kind}" in changed.metrics()
    logged: dict[str, float] = {}

    class Logs(LocalContext):
        def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
            logged.update(metrics)

    Run(changed, Logs(folder), data.load(changed.data)).run()
    assert logged[f"val/{kind}"] ** 2 >= logged["val/squared_error"] > 0  # the largest of six errors, and their mean


def is_a_recipe(seam: str, kind: str, folder: Path) -> None:
    recipe = RECIPES.get(kind).build()
    run = trained(with_values(recipe, {"epochs": None, "steps": 2, "evaluation.pictures": False}), folder)
    assert type(run.model.latents()["z"].posterior).__module__ == "lighthouse.around"


@cache
def searched() -> StageResult:
    """The search by name, run once for the three seams that it needs."""
    study = SEARCHES.get(SEAMS["search"]).build()
    brief = {"epochs": 5, "evaluation.pictures": False, "evaluation.limit": 64, "evaluation.test": False}
    study = study.model_copy(update={"base": with_values(study.base, brief)})
    with tempfile.TemporaryDirectory() as folder:
        (result,) = run_study(study, Path(folder))
    return result


def is_searched(seam: str, kind: str, folder: Path) -> None:
    """Its points are by the own searcher, and two of its four trials are stopped by the own pruner."""
    result = searched()
    assert {"search": SEAMS["search"], "searcher": result.stage.search.kind, "pruner": result.stage.pruning.kind}[
        seam
    ] == kind
    points = [trial.assignment["model.likelihood.scale"] for trial in result.trials]
    assert points == pytest.approx([10 ** (u - 1) for u in (0.5, 0.25, 0.75, 0.125)])
    states = [outcome.state for outcome in result.outcomes.values()]
    assert (states.count("done"), states.count("pruned")) == (2, 2)
    assert result.winner is not None


def is_sampled(seam: str, kind: str, folder: Path) -> None:
    drawn = latents(subjects.digits(), SAMPLERS.get(kind).model_validate({}), 8)
    assert drawn.shape == (8, 4)
    assert drawn.isfinite().all()


def is_evaluated(seam: str, kind: str, folder: Path) -> None:
    run = trained(config(), folder)
    plan = EvaluationPlan.model_validate({"evaluators": [{"kind": kind}], "split": "val"})
    subject = Subject(run.model, run.config, data.load(run.config.data), plan)
    (findings,) = evaluate(subject).values()
    (value,) = findings.values
    x = data.load(run.config.data).val.x
    assert 0.01 < value.value / float(x.norm(dim=1).mean()) < 2  # after 14 steps: smaller than the data, not nothing
    assert (value.name, value.count) == ("reconstruction_norm", 128)


def is_a_measure_of_distance(seam: str, kind: str, folder: Path) -> None:
    evaluator = {"kind": "fid", "features": {"kind": kind}, "count": 200, "reconstructions": False}
    (findings,) = evaluate(subjects.digits(evaluators=[evaluator], limit=200)).values()
    values = {value.name: value.value for value in findings.values}
    assert values[f"fid_{kind}/prior"] > 0


def is_run_as_a_job(seam: str, kind: str, folder: Path) -> None:
    spec: Any = kinds.resolve({"kind": kind, "train": config().model_dump(mode="json")})
    result = kinds.KINDS.get(kind).run(None, spec)
    run = trained(config(), folder)
    assert result == {"parameters": sum(parameter.numel() for parameter in run.module.parameters())}


def is_reproduced(seam: str, kind: str, folder: Path) -> None:
    results = reproduce(REPRODUCTIONS.get(kind), "small", folder)
    assert results.missing == {}
    assert [verdict.outcome for verdict in results.verdicts] == ["holds"]


TRIALS: Mapping[str, Callable[[str, str, Path], None]] = {
    **dict.fromkeys(WHERE, is_trained_with),
    "data-source": is_a_source, "measure": is_measured, "recipe": is_a_recipe, "search": is_searched,
    "searcher": is_searched, "pruner": is_searched, "sampler": is_sampled, "evaluator": is_evaluated,
    "features": is_a_measure_of_distance, "job-kind": is_run_as_a_job, "reproduction": is_reproduced,
    "frame-net": is_a_net_of_frames,
}  # fmt: skip


def test_every_seam_has_a_trial() -> None:
    assert set(TRIALS) == set(parts_view.seams()), "a seam has no part in tests/plugins, or no trial here"
    for name, seam in parts_view.seams().items():
        assert seam.registered()[SEAMS[name]].package == "lighthouse 1.0"
        assert seam.broken == ()
        assert seam.registered()[seam.kinds()[0]].package == OURS


@pytest.mark.parametrize("seam", TRIALS)
def test_a_part_of_own_code_does_its_work(seam: str, tmp_path: Path) -> None:
    TRIALS[seam](seam, SEAMS[seam], tmp_path)
