"""Many configurations in one process: each is a lane with a run of its own, and some share every training step.

A *pack* is a list of runs of the same data. Lanes of equal shape can be *fused*: their parameters and buffers are
stacked, [lanes, *shape], and one `torch.func.vmap` of the step's gradient serves them all; each lane's optimizer,
controller, metrics and checkpoints stay its own, on views of the stacks. So lane i gives the curve of configuration i
trained alone, up to rounding. Lanes that are not fused are trained *in turn*, from one evaluation to the next, on the
same resident data.

How many lanes to fuse at a time is measured in the first steps, which are real ones: see `Widths`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from vae_models import data
from vae_models.collectives import world_size
from vae_models.config.shape import shape_of
from vae_models.config.train import TrainConfig
from vae_models.data import support
from vae_models.data.batching import Resident
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.protocols import RunContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.loop import Result, Run
from vae_models.training.polling import POLL_SECONDS

PROBE_STEPS = 5  # of which the first is not timed


@dataclass(frozen=True, kw_only=True)
class Lane:
    """How one configuration ended: with a result, or with a loss that was not finite."""

    result: Result | None = None
    error: NonFiniteLoss | None = None


@dataclass(kw_only=True)
class Widths:
    """What was measured: width w -> seconds for one step of all lanes, fused w at a time (1: in turn).

    reasons: why a width could not be taken; chosen: the fastest, None before it is known.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    chosen: int | None = None


# (step, metrics of each lane that still runs, by its number) -> the numbers of those that shall stop here
Decide = Callable[[int, Mapping[int, Mapping[str, float]]], Iterable[int]]


class CannotFuse(RuntimeError):  # noqa: N818 - says what is the case
    """These lanes cannot be one stack, and why."""


def reason_against(config: TrainConfig) -> str | None:
    """Why runs of this configuration are trained in turn; None where they can be fused.

    Fused lanes differ from separate runs by rounding. A variance for each element of each datum, fitted to that element
    alone (AR-ELBO's Diag-D), has the loss log(e^2 + epsilon), whose slope reaches 1/sqrt(epsilon): within a few hundred
    steps rounding becomes another curve.
    """
    match config.model.likelihood:
        case GaussianConfig(fit="mle", tie="diag", per="datum"):
            return (
                "a variance for each element of each datum amplifies rounding: fused, a lane would leave its own curve"
            )
    return None


@dataclass(frozen=True, kw_only=True)
class _Number:
    """A real attribute of a part, which differs between lanes: of the module at `path`, or of the record it holds as
    `record` (a likelihood, an objective)."""

    path: str
    record: str | None
    name: str

    def of(self, module: nn.Module) -> float:
        owner: Any = module.get_submodule(self.path)
        return float(getattr(owner if self.record is None else getattr(owner, self.record), self.name))


def _differing(modules: Sequence[nn.Module]) -> list[_Number]:
    found = []
    for path, module in modules[0].named_modules():
        for name, value in vars(module).items():
            if isinstance(value, float):
                found.append(_Number(path=path, record=None, name=name))
            elif is_dataclass(value) and not isinstance(value, type | nn.Module):
                reals = [field.name for field in fields(value) if isinstance(getattr(value, field.name), float)]
                found += [_Number(path=path, record=name, name=real) for real in reals]
    return [number for number in found if len({number.of(module) for module in modules}) > 1]


@contextmanager
def _with_numbers(module: nn.Module, numbers: Mapping[_Number, Tensor]) -> Iterator[None]:
    """`module` with these for its numbers; its records are copied, not changed: lanes may share them."""
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for number, value in numbers.items():
            owner = module.get_submodule(number.path)
            attribute = number.record or number.name
            before.append((owner, attribute, getattr(owner, attribute)))
            if number.record is None:
                setattr(owner, attribute, value)
            else:
                record = copy(getattr(owner, attribute))
                object.__setattr__(record, number.name, value)
                setattr(owner, attribute, record)
        yield
    finally:
        for owner, attribute, value in reversed(before):
            setattr(owner, attribute, value)


class Fused:
    """Runs at one step as a stack, from now until `close`; every run's model and optimizer are views of it."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        modules = [run.module for run in runs]
        self._names = [name for name, _ in modules[0].named_parameters()]
        self._views = [dict(module.named_parameters()) for module in modules]
        self._parameters = {name: _stacked([views[name] for views in self._views]) for name in self._names}
        self._buffers = _stack_buffers(modules)
        self._one_batch = len({run.config.seed for run in runs}) == 1
        self._tried = False
        self._parts_differ = len({_parts(run.config) for run in runs}) > 1
        numbers = _differing(modules) if self._parts_differ else []
        some = next(iter(self._parameters.values()))
        self._numbers = [
            torch.tensor([n.of(m) for m in modules], dtype=some.dtype, device=some.device) for n in numbers
        ]
        skeleton = modules[0]

        def loss(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            values: list[Tensor],
            x: Tensor,
            noise: dict[str, Tensor],
            beta: Tensor,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            with _with_numbers(skeleton, dict(zip(numbers, values, strict=True))):
                # a shared layer is one module under several names: set once; torch would put it back wrongly
                total, terms = functional_call(skeleton, (parameters, buffers), (x, noise, beta), tie_weights=False)
            return total, terms

        shared = None if self._one_batch else 0
        self._gradient = vmap(grad_and_value(loss, has_aux=True), (0, 0, 0, shared, shared, 0), randomness="error")

    def step(self) -> None:
        """One optimizer step of every lane.

        CannotFuse, in the first step only: torch cannot map an operation over lanes, or the losses are not those of the
        lanes alone because a part is not a function of what can be stacked. OutOfMemoryError: the stack is too large.
        In both cases nothing has changed, neither weights nor statistics.
        """
        x, noise, beta = self._inputs()
        gradients, (losses, terms) = self._first(x, noise, beta) if not self._tried else self._map(x, noise, beta)
        for lane, run in enumerate(self.runs):
            for name, view in self._views[lane].items():
                # laid out as the weights: the optimizer's kernel goes through the memory of both side by side, and what
                # a mapped convolution's second derivative leaves may be transposed
                view.grad = gradients[name][lane].contiguous()
            run.apply(losses[lane], {name: term[lane] for name, term in terms.items()})

    def _inputs(self) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Lanes of one seed have the same batches and noise: drawn once, and not stacked."""
        if self._one_batch:
            x, noise = self.runs[0].batch()
            betas = [run.control_beta(noise) for run in self.runs]
            return x, noise, torch.stack(betas)
        by_seed: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
        for run in self.runs:
            if run.config.seed not in by_seed:
                by_seed[run.config.seed] = run.batch()
        drawn = [by_seed[run.config.seed] for run in self.runs]
        betas = [run.control_beta(noise) for run, (_, noise) in zip(self.runs, drawn, strict=True)]
        noises = {name: torch.stack([noise[name] for _, noise in drawn]) for name in drawn[0][1]}
        return torch.stack([x for x, _ in drawn]), noises, torch.stack(betas)

    def _map(self, x: Tensor, noise: dict[str, Tensor], beta: Tensor) -> Any:
        """(gradients, (losses, terms)), each [lanes, ...]."""
        return self._gradient(self._parameters, self._buffers, self._numbers, x, noise, beta)

    def _first(self, x: Tensor, noise: dict[str, Tensor], beta: Tensor) -> Any:
        """As `_map`, with an error where these lanes cannot be fused."""
        before = {name: buffer.clone() for name, buffer in self._buffers.items()}
        try:
            expected = self._alone(x, noise, beta) if self._parts_differ else None
            found = self._map(x, noise, beta)
            if expected is not None and not torch.allclose(found[1][0], expected, rtol=1e-4, equal_nan=True):
                raise CannotFuse("the parts differ in numbers that cannot be stacked")
        except RuntimeError as error:
            self._restore(before)
            if isinstance(error, CannotFuse | torch.OutOfMemoryError):
                raise
            raise CannotFuse(str(error).strip().splitlines()[0]) from error
        self._tried = True
        return found

    def _alone(self, x: Tensor, noise: dict[str, Tensor], beta: Tensor) -> Tensor:
        """[lanes]: the losses of the lanes one by one; changes nothing."""
        before = {name: buffer.clone() for name, buffer in self._buffers.items()}
        losses = []
        for lane, run in enumerate(self.runs):
            own = (x, noise) if self._one_batch else (x[lane], {name: value[lane] for name, value in noise.items()})
            losses.append(run.module(*own, beta[lane])[0].detach())  # some losses are slopes: they need the graph
        self._restore(before)
        return torch.stack(losses)

    def _restore(self, buffers: Mapping[str, Tensor]) -> None:
        for name, buffer in buffers.items():
            self._buffers[name].copy_(buffer)

    def close(self) -> None:
        """Gives every run tensors of its own again, so the stack's memory goes with the last lane."""
        for run in self.runs:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.grad = None
                    parameter.data = parameter.data.clone()
                for module in run.module.modules():
                    for name, buffer in module._buffers.items():
                        if buffer is not None:
                            module._buffers[name] = buffer.clone()


def _parts(config: TrainConfig) -> str:
    return config.model.model_dump_json() + config.objective.model_dump_json()


def _stacked(tensors: Sequence[nn.Parameter]) -> Tensor:
    """[lanes, *shape], and every parameter a view of its row."""
    stack = torch.stack([tensor.detach() for tensor in tensors])
    for row, tensor in zip(stack.unbind(0), tensors, strict=True):
        tensor.data = row
    return stack


def _stack_buffers(modules: Sequence[nn.Module]) -> dict[str, Tensor]:
    stacks: dict[str, Tensor] = {}
    for name, _ in modules[0].named_buffers():
        path, _, last = name.rpartition(".")
        owners = [module.get_submodule(path) for module in modules]
        stacks[name] = torch.stack([module.get_buffer(name) for module in modules])
        for row, owner in zip(stacks[name].unbind(0), owners, strict=True):
            owner._buffers[last] = row
    return stacks


def train_pack(
    configs: Sequence[TrainConfig],
    contexts: Sequence[RunContext],
    *,
    dataset: data.Dataset | None = None,
    width: int | None = None,
    decide: Decide = lambda step, metrics: (),
    poll_seconds: float = POLL_SECONDS,
    widths: Widths | None = None,
    on_end: Callable[[int, Lane], None] = lambda number, lane: None,
) -> list[Lane]:
    """Trains every configuration from its context's latest checkpoint to its last step; one process, one worker.

    dataset: of all of them, instead of loading the first one's. width: how many to fuse at a time, 1 for none; None
    measures. decide: asked after every evaluation with what each lane has measured; whom it names is stopped there,
    with a checkpoint. widths: what was measured is written there. on_end: told of each lane as soon as it has ended. A
    lane whose loss is not finite ends alone.
    """
    dataset = dataset or data.load(configs[0].data)
    for levels in {config.model.likelihood.levels for config in configs}:
        support.check(dataset, configs[0].data, levels=levels)
    pack = _Pack(configs, contexts, dataset, decide, poll_seconds, widths or Widths(), on_end)
    return pack.run(width)


class _Pack:
    def __init__(
        self,
        configs: Sequence[TrainConfig],
        contexts: Sequence[RunContext],
        dataset: data.Dataset,
        decide: Decide,
        poll_seconds: float,
        widths: Widths,
        on_end: Callable[[int, Lane], None],
    ) -> None:
        if len({config.data.model_dump_json() for config in configs}) > 1:
            raise ValueError("the configurations of a pack have one `data`: they share the resident set")
        if world_size() > 1:
            raise ValueError("a pack is trained by one process; several workers train one configuration each time")
        self.decide = decide
        self.widths = widths
        self.on_end = on_end
        self.ended: dict[int, Lane] = {}
        self._in_turn: set[int] = set()  # lanes that were found not to be fusable
        resident: dict[tuple[str, str], dict[str, Resident]] = {}
        self.runs: dict[int, Run] = {}
        for number, (config, context) in enumerate(zip(configs, contexts, strict=True)):
            splits = resident.setdefault((str(context.device), config.dtype), {})
            self.runs[number] = Run(config, context, dataset, poll_seconds=poll_seconds, resident=splits)

    def run(self, width: int | None) -> list[Lane]:
        for number in list(self.runs):
            self._guarded(number, self.runs[number].begin)
        if width is None:
            width = self._measure()
        self.widths.chosen = width
        while self.runs:
            self._advance(width)
            self._decide()
        return [self.ended[number] for number in sorted(self.ended)]

    # --- one lane ---------------------------------------------------------------------------------------------------

    def _guarded(self, number: int, act: Callable[[], bool]) -> bool:
        """Does it for one lane; takes the lane out when it has ended. True: it goes on."""
        run = self.runs[number]
        try:
            going = act()
        except NonFiniteLoss as error:
            self.ended[number] = Lane(error=error)
        else:
            if going and not run.done:
                return True
            self.ended[number] = Lane(result=run.end(stopped=not going))
        del self.runs[number]
        self.on_end(number, self.ended[number])
        return False

    # --- all lanes --------------------------------------------------------------------------------------------------

    def _groups(self, width: int) -> list[list[int]]:
        """Lanes that can be one stack and are at one step, at most `width` together."""
        kinds: dict[tuple[str, int], list[int]] = {}
        groups = []
        for number, run in self.runs.items():
            if reason_against(run.config) is None and number not in self._in_turn:
                kinds.setdefault((shape_of(run.config), run.at.step), []).append(number)
            else:
                groups.append([number])
        return groups + [
            lanes[start : start + width] for lanes in kinds.values() for start in range(0, len(lanes), width)
        ]

    def _advance(self, width: int, steps: int | None = None) -> None:
        """All lanes to the next evaluation of the one that is furthest behind, or each by `steps` steps."""
        nearest = min((_next_evaluation(run) for run in self.runs.values()), default=0)
        until = {number: nearest if steps is None else run.at.step + steps for number, run in self.runs.items()}
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
        """Those that cannot be fused, and have not moved."""
        going = list(group)
        while going:
            lanes = {number: self.runs[number] for number in going}
            fused = Fused(list(lanes.values()))
            try:
                if not self._first_step(fused, lanes):
                    return going
                going = [number for number in going if self._guarded(number, lanes[number].after_step)]
                while len(going) == len(lanes) and all(lanes[n].at.step < until[n] for n in going):
                    fused.step()
                    going = [number for number in going if self._guarded(number, lanes[number].after_step)]
            finally:
                fused.close()
            going = [number for number in going if lanes[number].at.step < until[number]]
        return []

    def _first_step(self, fused: Fused, lanes: Mapping[int, Run]) -> bool:
        """False where these lanes cannot be fused: they are trained in turn from now on, and the reason is kept."""
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
        """The fastest of 1, 2, 4, ... and all lanes; each is tried for a few steps, which count like all others."""
        largest = max((len(group) for group in self._groups(len(self.runs) or 1)), default=1)
        candidates = [1, *(2**power for power in range(1, 12) if 2**power < largest), largest]
        for width in dict.fromkeys(candidates):
            left = min((_next_evaluation(run) - run.at.step for run in self.runs.values()), default=0)
            if left <= PROBE_STEPS:
                break  # a decision may be due there
            try:
                self._advance(width, 1)
                _finish(self.runs.values())
                began = time.perf_counter()
                self._advance(width, PROBE_STEPS - 1)
                _finish(self.runs.values())
            except torch.OutOfMemoryError as error:
                if width == 1:
                    raise
                self.widths.reasons[width] = str(error).splitlines()[0]
                break
            self.widths.seconds[width] = (time.perf_counter() - began) / (PROBE_STEPS - 1)
        return min(self.widths.seconds, key=lambda width: self.widths.seconds[width], default=1)


def _one(run: Run) -> bool:
    run.step()
    return run.after_step()


def _next_evaluation(run: Run) -> int:
    """Its step, counted from 1; the last step has one."""
    step = run.at.step + 1
    while not run.timetable.evaluation_due(step):
        step += 1
    return step


def _finish(runs: Iterable[Run]) -> None:
    """Waits for the device, so that a time is of the work and not of its queue."""
    if any(run.device.type == "cuda" for run in runs):
        torch.cuda.synchronize()
