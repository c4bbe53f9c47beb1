"""What a study would run, and what that costs."""

from __future__ import annotations

from service.cli import output
from service.kinds.study.spec import StudySpec, cost
from service.kinds.study.text import assignment
from service.queue.jobs import Resources


def plan(spec: StudySpec, *, json: bool = False) -> None:
    """Print what would run, and what it costs."""
    from service.kinds.train.plan import memory_lines
    from tuning.pace import seconds_per_step
    from tuning.study import trials

    if json:
        output.as_json(spec)
        return
    base, steps = spec.study.base, cost(spec.study)
    output.note("Timing a few steps of each stage, on random data ...")
    for stage in spec.study.stages:
        planned = list(trials(stage, base))
        size = f"{stage.planned()} trials, {stage.planned() // len(stage.repeats)} x {len(stage.repeats)} seeds"
        output.data(
            f"{stage.name}: {size}, best {stage.metric} ({stage.mode}); at most {steps[stage.name]:,} steps of "
            f"{base.batch_size} images, {output.duration(steps[stage.name] * seconds_per_step(base))} one after the "
            "other on this machine's CPU"
        )
        for line in memory_lines(base, Resources()):
            output.note(f"Of one trial alone. {line}")
        output.table(
            ("TRIAL", "SEED", "VALUES"),
            [(str(t.number), str(t.seed), assignment(t.assignment)) for t in planned],
        )
        base = planned[0].config
        if stage.planned() > len(planned):
            output.data(f"... and {stage.planned() - len(planned)} more, chosen by what these give")
    output.note("The values of a later stage are set on top of what wins the one before.")
