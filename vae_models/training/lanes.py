"""Many configurations in one process: each is a lane with a run of its own, and some share every training step.

A *pack* is a list of runs of the same data. Lanes of equal shape can be *fused*: their parameters and buffers are
stacked, [lanes, *shape], and one `torch.func.vmap` of the step's gradient serves them all; each lane's optimizer,
controller, metrics and checkpoints stay its own, on views of the stacks. So lane i gives the curve of configuration i
trained alone, up to rounding. Lanes that are not fused are trained *in turn*, from one evaluation to the next, on the
same resident data.

How many lanes to fuse at a time is measured in the first steps, which are real ones: see `Widths`. A pack that is told
where more lanes come from (`More`) begins no more of them than it tries or fuses, and the next when those have ended:
what has not begun may be trained by somebody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from vae_models import data
from vae_models.collectives import world_size
from vae_models.config.shape import reason_against, stack_of
from vae_models.config.train import TrainConfig
from vae_models.data import support
from vae_models.data.config import DataConfig
from vae_models.data.memory import free_bytes
from vae_models.data.residency import Residence
from vae_models.nn.meter import Meter
from vae_models.protocols import RunContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.fused import CannotFuse, Fused
from vae_models.training.loop import Result, Run
from vae_models.training.polling import POLL_SECONDS
from vae_models.training.together import make_evaluations

GAIN = 0.95  # of a lane's step: what fusing more lanes must save for more of them to be begun
PROBE_STEPS = 5  # of which the first is not timed: its tensors are counted
ROOM = (
    0.5  # of the free memory: convolutions have copies of their own, which nobody counts, and packs stand side by side
)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """How one configuration ended: with a result, or with a loss that was not finite."""

    result: Result | None = None
    error: NonFiniteLoss | None = None


@dataclass(kw_only=True)
class Widths:
    """What was measured: width w -> seconds for one step of one lane, fused w at a time (1: in turn).

    seconds: of the processor where one thread of it computes, which other processes on the machine do not lengthen;
    else as they pass. bytes: of tensors that such a step made at most; reasons: why a width could not be taken, or was
    not for want of memory; chosen: the fastest, None before it is known.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    bytes: dict[int, int] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    chosen: int | None = None


# (step, metrics of each lane that still runs, by its number) -> the numbers of those that shall stop here
Decide = Callable[[int, Mapping[int, Mapping[str, float]]], Iterable[int]]

# (how many more lanes at most, how many run) -> configurations and contexts of the next lanes, whose numbers go on;
# none: nothing more for those that run, and where none runs nothing more at all
More = Callable[[int, int], Sequence[tuple[TrainConfig, RunContext]]]


def train_pack(
    configs: Sequence[TrainConfig],
    contexts: Sequence[RunContext],
    *,
    more: More | None = None,
    dataset: data.Dataset | None = None,
    width: int | None = None,
    decide: Decide = lambda step, metrics: (),
    poll_seconds: float = POLL_SECONDS,
    widths: Widths | None = None,
    on_end: Callable[[int, Lane], None] = lambda number, lane: None,
) -> list[Lane]:
    """Train every configuration from its context's latest checkpoint to its last step; one process, one worker.

    more: asked for further lanes of the same data, by which a wider stack is tried, and when all have ended.
    dataset: of all of them, instead of loading the first one's. width: how many to fuse at a time, 1 for none; None
    measures. widths: where measured widths are stored. decide: called after every evaluation with each lane's metrics;
    lanes that it names are stopped there, with a checkpoint. on_end: called for each lane as soon as it has ended. A
    lane whose loss is not finite ends alone.
    """
    dataset = dataset or data.load(configs[0].data)
    pack = _Pack(configs[0].data, dataset, more, decide, poll_seconds, widths or Widths(), on_end)
    try:
        pack.join(list(zip(configs, contexts, strict=True)))
        return pack.run(width)
    finally:
        pack.close()


class _Pack:
    def __init__(
        self,
        config: DataConfig,
        dataset: data.Dataset,
        more: More | None,
        decide: Decide,
        poll_seconds: float,
        widths: Widths,
        on_end: Callable[[int, Lane], None],
    ) -> None:
        if world_size() > 1:
            raise ValueError("a pack is trained by one process; several workers train one configuration each time")
        self.more = more
        self.decide = decide
        self.widths = widths
        self.on_end = on_end
        self.ended: dict[int, Lane] = {}
        self._data, self._dataset, self._poll_seconds = config, dataset, poll_seconds
        self._in_turn: set[int] = set()  # lanes that were found not to be fusable
        self.residences: dict[tuple[str, str], Residence] = {}
        self.runs: dict[int, Run] = {}
        self._joined = 0  # lanes, ended ones included

    def join(self, lanes: Sequence[tuple[TrainConfig, RunContext]]) -> list[int]:
        """Take these lanes in, before their first step; return their numbers."""
        if any(config.data != self._data for config, _ in lanes):
            raise ValueError("the configurations of a pack have one `data`: they share the resident set")
        for levels in {config.model.levels() for config, _ in lanes}:
            support.check(self._dataset, self._data, levels=levels)
        numbers = list(range(self._joined, self._joined + len(lanes)))
        self._joined += len(lanes)
        for number, (config, context) in zip(numbers, lanes, strict=True):
            place = (str(context.device), config.dtype)
            if place not in self.residences:
                dtype = getattr(torch, config.dtype)
                self.residences[place] = Residence(self._dataset, self._data, context.device, dtype)
            splits = self.residences[place]
            self.runs[number] = Run(config, context, self._dataset, poll_seconds=self._poll_seconds, residence=splits)
        return numbers

    def run(self, width: int | None) -> list[Lane]:
        self._begin(list(self.runs))
        if width is None:
            width = self._measure()
        self.widths.chosen = width
        while self.runs or self._go_on(width):
            self._advance(width)
            self._decide()
        return [self.ended[number] for number in sorted(self.ended)]

    def _begin(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._guarded(number, self.runs[number].begin)

    def _go_on(self, width: int) -> bool:
        """Begin the next lanes, once all have ended; return whether there are any."""
        while not self.runs:
            lanes = [] if self.more is None else self.more(width, 0)
            if not lanes:
                return False
            self._begin(self.join(lanes))
        return True

    def close(self) -> None:
        """End the background work of all lanes."""
        for run in self.runs.values():
            run.close()
        for residence in self.residences.values():
            residence.close()

    # --- one lane ---------------------------------------------------------------------------------------------------

    def _guarded(self, number: int, act: Callable[[], bool]) -> bool:
        """Act for one lane, and remove the lane when it has ended. Return whether it goes on."""
        run = self.runs[number]
        try:
            going = act()
        except NonFiniteLoss as error:
            self.ended[number] = Lane(error=error)
        else:
            if going and not run.done:
                return True
            self.ended[number] = Lane(result=run.end(stopped=not going))
        run.close()
        del self.runs[number]
        self.on_end(number, self.ended[number])
        return False

    # --- all lanes --------------------------------------------------------------------------------------------------

    def _groups(self, width: int) -> list[list[int]]:
        """Return the lanes that can be one stack and are at one step, at most `width` together."""
        kinds: dict[tuple[str, int], list[int]] = {}
        groups = []
        for number, run in self.runs.items():
            if reason_against(run.config) is None and number not in self._in_turn:
                kinds.setdefault((stack_of(run.config), run.at.step), []).append(number)
            else:
                groups.append([number])
        return groups + [
            lanes[start : start + width] for lanes in kinds.values() for start in range(0, len(lanes), width)
        ]

    def _advance(self, width: int, steps: int | None = None) -> None:
        """Advance all lanes to the next evaluation of the one that is furthest behind, or each by `steps` steps."""
        nearest = min((_next_evaluation(run) for run in self.runs.values()), default=0)
        until = {number: nearest if steps is None else run.at.step + steps for number, run in self.runs.items()}
        self._advance_until(width, until)

    def _advance_until(self, width: int, until: Mapping[int, int]) -> None:
        """Advance each lane to its step in `until`."""
        groups = self._groups(width)
        for group in groups:
            if self.runs[group[0]].at.step >= until[group[0]]:
                continue  # lanes of one group are at one step
            if len(group) == 1:
                (number,) = group
                run = self.runs[number]
                while run.at.step < until[number] and self._guarded(number, partial(_one, run)):
                    pass
            else:
                groups += [[number] for number in self._advance_fused(group, until)]

    def _advance_fused(self, group: list[int], until: Mapping[int, int]) -> list[int]:
        """Advance a stack; return the lanes that cannot be fused, and have not moved."""
        going = list(group)
        while going:
            lanes = {number: self.runs[number] for number in going}
            fused = Fused(list(lanes.values()))
            try:
                if not self._first_step(fused, lanes):
                    return going
                going = self._after_step(going)
                while len(going) == len(lanes) and all(lanes[n].at.step < until[n] for n in going):
                    fused.step()
                    going = self._after_step(going)
            finally:
                fused.close()
            going = [number for number in going if lanes[number].at.step < until[number]]
        return []

    def _after_step(self, numbers: Sequence[int]) -> list[int]:
        """Do what is due after a step of these lanes, evaluations together; return those that go on."""
        make_evaluations([self.runs[number] for number in numbers])
        return [number for number in numbers if self._guarded(number, self.runs[number].after_step)]

    def _first_step(self, fused: Fused, lanes: Mapping[int, Run]) -> bool:
        """Take the first step of a stack. Return False where its lanes cannot be fused:
        from now on they are trained in turn.
        """
        try:
            fused.step()
        except CannotFuse as error:
            self._in_turn |= lanes.keys()
            self.widths.reasons[len(lanes)] = str(error)
            return False
        return True

    def _decide(self) -> None:
        if not self.runs:
            return
        step = min(run.at.step for run in self.runs.values())
        stop = set(self.decide(step, {number: dict(run.at.latest) for number, run in self.runs.items()}))
        for number in sorted(stop & self.runs.keys()):
            self._guarded(number, self.runs[number].stop)

    # --- how wide ---------------------------------------------------------------------------------------------------

    def _measure(self) -> int:
        """Return the fastest of 1, 2, 4, ... and all lanes, of which more are begun as long as that pays;
        each is tried for a few steps, which count like all others.
        """
        clock = _clock(self.runs.values())
        seconds: dict[int, float] = {}
        width = 1
        while self.runs:
            left = min(_next_evaluation(run) - run.at.step for run in self.runs.values())
            if left <= PROBE_STEPS:
                break  # a decision may be due there
            try:
                reason = None
                grows = self.more is not None and width > len(self.runs) and _pays(list(seconds.values()))
                if grows and (reason := self._too_large(width)) is None:
                    self._grow(width)
                largest = max((len(group) for group in self._groups(len(self.runs) or 1)), default=1)
                if min(width, largest) in seconds:
                    self.widths.reasons |= {} if reason is None else {width: reason}
                    break
                width = min(width, largest)
                if (reason := self._too_large(width)) is not None:
                    self.widths.reasons[width] = reason
                    break
                with Meter() as meter:
                    self._advance(width, 1)
                self.widths.bytes[width] = meter.peak
                _finish(self.runs.values())
                began, lanes = clock(), len(self.runs)
                self._advance(width, PROBE_STEPS - 1)
                _finish(self.runs.values())
            except torch.OutOfMemoryError as error:
                if width == 1:
                    raise
                self.widths.reasons[width] = str(error).splitlines()[0]
                break
            seconds[width] = (clock() - began) / (PROBE_STEPS - 1) / max(lanes, 1)
            self.widths.seconds[width] = seconds[width]
            width *= 2
        return min(seconds, key=lambda each: seconds[each], default=1)

    def _grow(self, width: int) -> None:
        """Begin further lanes until `width` run, and advance them to where the others are."""
        assert self.more is not None
        lanes = self.more(width - len(self.runs), len(self.runs))
        step = min(run.at.step for run in self.runs.values())
        numbers = self.join(lanes)
        self._begin(numbers)
        behind = [number for number in numbers if number in self.runs and self.runs[number].at.step < step]
        if any(_next_evaluation(self.runs[number]) <= step for number in behind):
            return  # a decision may be due there
        until = {number: step if number in behind else run.at.step for number, run in self.runs.items()}
        self._advance_until(max(width // 2, 1), until)

    def _too_large(self, width: int) -> str | None:
        """Return why there is no memory to fuse so many; None: there is, or it is not known.

        A stack takes what half, or a third, ... of its lanes took, in proportion. A process of a CPU would be killed,
        and no error raised in it.
        """
        fused = [each for each in self.widths.bytes if each > 1]
        if not fused:
            return None
        needed = self.widths.bytes[fused[-1]] * width // fused[-1]
        free = free_bytes(next(iter(self.runs.values())).device)
        if needed <= ROOM * free:
            return None
        return (
            f"a step of {width} lanes takes about {needed / 2**20:,.0f} MiB, by that of {fused[-1]}, and "
            f"{ROOM * free / 2**20:,.0f} MiB may be taken of what is free"
        )


def _pays(seconds: Sequence[float]) -> bool:
    """Return whether more lanes are worth to be begun. seconds: of a lane's step, by widths 1, 2, 4, ...

    They are, as long as one of the last two doublings gained something: what has begun is nobody else's to train.
    """
    return len(seconds) < 3 or min(seconds[-2:]) < GAIN * min(seconds[:-2])


def _one(run: Run) -> bool:
    run.step()
    return run.after_step()


def _next_evaluation(run: Run) -> int:
    """Return the step of the next evaluation, counted from 1; the last step has one."""
    step = run.at.step + 1
    while not run.timetable.evaluation_due(step):
        step += 1
    return step


def _clock(runs: Iterable[Run]) -> Callable[[], float]:
    """Return the clock by which widths are compared, in seconds.

    A thread that computes alone on a CPU, backward passes too, is measured by its own processor time: on a machine that
    others use, seconds as they pass are of whoever else computed in these few steps.
    """
    alone = torch.get_num_threads() == 1 and all(run.device.type == "cpu" for run in runs)
    return time.thread_time if alone else time.perf_counter


def _finish(runs: Iterable[Run]) -> None:
    """Wait for the devices, so that a time is of the work and not of its queue."""
    for device in {run.device for run in runs if run.device.type == "cuda"}:
        torch.cuda.synchronize(device)
