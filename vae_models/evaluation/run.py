"""An evaluation: evaluators one after another, each one's findings kept when it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vae_models.evaluation.findings import Findings
from vae_models.evaluation.fitting.fit import offer
from vae_models.evaluation.specs import chosen
from vae_models.evaluation.subject import Inapplicable, Subject


class Kept(Protocol):
    """Where findings are kept while an evaluation lasts, by the evaluator's key."""

    def get(self, key: str) -> Findings | None: ...

    def put(self, key: str, findings: Findings) -> None: ...


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
        else:
            offer(subject, findings)
        results[name] = findings
    return results
