"""An evaluation: evaluators one after another, each one's findings kept when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from vae_models.config.run import RunConfig
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.specs import EVALUATORS, EvaluationPlan, EvaluatorSpec
from vae_models.evaluation.subject import Inapplicable, Subject


class Kept(Protocol):
    """Where findings are kept while an evaluation lasts, by the evaluator's key."""

    def get(self, key: str) -> Findings | None: ...

    def put(self, key: str, findings: Findings) -> None: ...


def chosen(plan: EvaluationPlan, config: RunConfig) -> Mapping[str, EvaluatorSpec]:
    """Return what is evaluated, by key: the plan's, or all standard ones that suit the model and its data.

    Raise ValueError with a line for each evaluator of the plan that does not suit.
    """
    if plan.evaluators:
        problems = [f"{spec.kind}: {reason}" for spec in plan.evaluators for reason in spec.refusals(config)]
        if problems:
            raise ValueError("\n".join(problems))
        return {key(spec): spec for spec in plan.evaluators}
    every = (part.model_validate({}) for part in EVALUATORS.all().values() if part.standard)
    return {key(spec): spec for spec in every if not any(True for _ in spec.refusals(config))}


def key(spec: EvaluatorSpec) -> str:
    """Return a name for the evaluator with its settings, such as a folder may have."""
    from hashlib import sha256

    return f"{spec.kind}-{sha256(spec.model_dump_json().encode()).hexdigest()[:12]}"


def evaluate(
    subject: Subject, *, kept: Kept | None = None, say: Callable[[str], None] = lambda text: None
) -> dict[str, Findings]:
    """Return the findings of each evaluator, by key, in the plan's order.

    kept: what was found out before is not computed again. say: is told what could not be found out, and why. Raise
    `subject.Stopped` when asked to stop, Inapplicable where an evaluator that the plan names cannot be.
    """
    results: dict[str, Findings] = {}
    for name, spec in chosen(subject.plan, subject.config).items():
        findings = None if kept is None else kept.get(name)
        if findings is None:
            try:
                findings = spec.build()(subject)
            except Inapplicable as reason:
                if subject.plan.evaluators:
                    raise Inapplicable(f"{spec.kind}: {reason}") from reason
                findings = Findings(notes=(f"{spec.kind} was left out: {reason}",))
                say(findings.notes[0])
            if kept is not None:
                kept.put(name, findings)
        results[name] = findings
    return results
