"""What an evaluation would find out, and what is left out and why: for `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.cli import connect, output
from service.code.reference import absent
from service.kinds.evaluate import plans
from service.kinds.evaluate.spec import EvaluateSpec
from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EvaluationPlan


def plan(spec: EvaluateSpec) -> None:
    """Print it. Which model is meant, and how it was trained, is asked of the service."""
    whole = spec if spec.train is not None else resolved(spec)
    model, train = whole.model, whole.train
    if model is not None and train is not None:
        output.data(f"{spec.of}: {model.uri}, step {model.step:,}")
        if absent(whole.code):
            output.note(f"what suits it is known with the package {whole.code}: give it with --code DIR|WHEEL")
        else:
            show(whole.plan, train)


def resolved(spec: EvaluateSpec) -> EvaluateSpec:
    """Return the spec as the service would take it."""
    with connect.client() as client:
        return EvaluateSpec.model_validate(client.dry_run(spec.model_dump(mode="json")))


def show(asked: EvaluationPlan, config: RunConfig) -> None:
    """Print what is evaluated of such a model, and what is left out and why."""
    evaluators = plans.fitting(asked, config).values()
    output.data(f"on {_count(asked, config)} of the {asked.split} split of {config.data.name}:")
    rows = [(spec.kind, _settings(spec.model_dump(mode="json")), _first_line(spec.__doc__)) for spec in evaluators]
    output.table(("EVALUATOR", "SETTINGS", "WHAT"), rows)
    if not asked.evaluators and (aside := plans.left_out(config)):
        output.data("\nleft out:")
        output.table(("EVALUATOR", "WHY"), list(aside.items()))


def _count(asked: EvaluationPlan, config: RunConfig) -> str:
    size = config.data.facts.sizes[("train", "val", "test").index(asked.split)]
    return f"{min(size, asked.limit or size):,} of {size:,} data"


def _settings(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items() if name != "kind") or "-"


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if text else ""
