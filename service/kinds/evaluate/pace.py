"""How far an evaluation is, and how long the pass that it is at will still take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_models.evaluation.findings import Findings
    from vae_models.evaluation.run import Kept
    from vae_models.evaluation.specs import EvaluatorSpec


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A report of progress.

    evaluator:    its kind; number: the how-manieth of `evaluators` it is, from 1
    what:         of which `done` of `total` is done, in the evaluator's words
    seconds_left: of this pass over the data, by its own speed
    """

    evaluator: str
    number: int
    evaluators: int
    what: str
    done: int
    total: int
    seconds_left: float | None


class Pace:
    """The `Tick` of a subject and a `Kept` around another one, which together know which evaluator is at work."""

    def __init__(
        self,
        kept: Kept,
        evaluators: Mapping[str, EvaluatorSpec],
        *,
        show: Callable[[Standing], None],
        stopping: Callable[[], Callable[[], bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is needed. evaluators: by key, in their order. stopping:
        makes the check of one pass, whose batches take about the same time: whether somebody asked to stop."""
        self.computed: list[str] = []  # keys of what was not there already
        self._kept = kept
        self._kinds = {key: spec.kind for key, spec in evaluators.items()}
        self._show = show
        self._stopping = stopping
        self._stop = stopping()
        self._clock = clock
        self._key = ""
        self._pass: tuple[str, float, int] | None = None  # what, since when, how much was done then

    def get(self, key: str) -> Findings | None:
        """Return what is kept; otherwise the evaluator of that key is at work from now on."""
        self._key, self._pass = key, None
        return self._kept.get(key)

    def put(self, key: str, findings: Findings) -> None:
        """Keep the findings."""
        self.computed.append(key)
        self._kept.put(key, findings)

    def tick(self, what: str, done: int, total: int) -> bool:
        """Show how far the pass is; return whether to stop."""
        now = self._clock()
        if self._pass is None or self._pass[0] != what or done < self._pass[2]:
            self._pass = (what, now, done)
            self._stop = self._stopping()
        _, since, first = self._pass
        left = (now - since) / (done - first) * (total - done) if done > first else None
        keys = list(self._kinds)
        self._show(
            Standing(
                evaluator=self._kinds.get(self._key, ""), number=keys.index(self._key) + 1 if self._key in keys else 0,
                evaluators=len(keys), what=what, done=done, total=total, seconds_left=left,
            )
        )  # fmt: skip
        return self._stop()


def pieces(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label with its unit, value) of everything that a report says."""
    from service.cli.output import duration

    if "evaluator" not in progress:
        return []
    return [
        ("evaluator", f"{progress['number']}/{progress['evaluators']} {progress['evaluator']}"),
        (str(progress["what"]), f"{progress['done']:,}/{progress['total']:,}"),
        ("left of it [h:mm:ss]", duration(progress.get("seconds_left"))),
    ]
