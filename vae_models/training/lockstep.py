"""What follows the gradient in a step of several lanes, for all of them at once: gates, clipping, the optimizer, the
controllers and the windows of losses.

Everything is a stack [lanes, ...], of which the lanes' own optimizers, controllers and windows hold rows, so that a
lane logs, evaluates and writes checkpoints as it does alone. What differs between lanes (learning rate, betas,
epsilon, weight decay, largest norm) is a tensor [lanes].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vae_models.optimization.stacked import StackedOptimizer, State, along
from vae_models.protocols import BetaController, StackableController
from vae_models.training.loop import Run
from vae_models.training.step import set_learning_rate
from vae_models.training.window import StackedWindow

# On a CPU a stacked step reads and writes the stacks once per operation, an optimizer's fused kernel once in all, to
# the bit as alone: lanes of more parameters than this step their own. On a GPU the calls are what takes the time.
SMALL = 0  # parameters of a lane


class Lockstep:
    """The lanes' own state as rows of stacks, from now until `close`."""

    def __init__(self, runs: Sequence[Run], views: Sequence[Mapping[str, nn.Parameter]], stacks: Mapping[str, Tensor]):
        """Take the lanes' parameters by name, and the stacks that they are rows of."""
        self.runs, self._views, self._stacks = list(runs), list(views), dict(stacks)
        self.device = runs[0].device
        self._windows = StackedWindow([run.window for run in runs])
        self._rate = _Cached(self.device)
        clips = [run.config.optimizer.clip_norm for run in runs]
        self._clips = None
        if any(clip is not None for clip in clips):
            largest = [float("inf") if clip is None else clip for clip in clips]
            self._clips = torch.tensor(largest, dtype=torch.float64, device=self.device)
        prior = {id(parameter) for parameter in runs[0].prior_parameters}
        self._prior = [name for name, parameter in views[0].items() if id(parameter) in prior]
        self._controller = _stacked_controller(runs, self.device)
        self._control: dict[str, Tensor] = {}
        if self._controller is not None:
            self._control = _rows_of([run.state.control for run in runs])
        self._optimizer = self._stacked_optimizer()
        self._states: dict[str, State] = {} if self._optimizer is None else self._stacked_states(self._optimizer)

    # --- a step -----------------------------------------------------------------------------------------------------

    def beta(self, noises: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return beta of the coming step, [lanes] or [lanes, batch]; noises: each lane's."""
        step = self.runs[0].at.step
        if self._controller is not None:
            betas = self._controller.beta(self._control, step, noises[0]).clone()
            for run, beta in zip(self.runs, betas.unbind(0), strict=True):
                run.beta = beta
            return betas
        betas = torch.stack([run.control_beta(noise) for run, noise in zip(self.runs, noises, strict=True)])
        return betas.to(self.device)

    @torch.no_grad()
    def apply(self, slopes: dict[str, Tensor], losses: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Take the optimizer's step of every lane and update controllers and windows: `Run.apply` of all of them.

        slopes: the gradients by parameter, [lanes, *shape], which are overwritten; losses, terms: [lanes].
        """
        step = self.runs[0].at.step
        gates = self._gates()
        if gates is not None:
            for name in self._prior:
                slopes[name].mul_(along(gates, slopes[name]))
        if self._clips is not None or any(run.timetable.log_due(step + 1) for run in self.runs):
            self._clip(slopes)
        self._move(slopes, [run.lr(step) for run in self.runs])
        if gates is not None:
            self._release(gates)
        self._update_controllers(terms)
        self._windows.add(losses, terms)
        for run in self.runs:
            run.taken()

    def _gates(self) -> Tensor | None:
        """Return 0 for lanes that hold their prior in this step and 1 for others, [lanes]; None where none can."""
        if self._controller is not None:
            return self._controller.trains_prior(self._control)
        gates = [run.controller.trains_prior(run.control) for run in self.runs]
        if all(gate is None for gate in gates):
            return None
        unity = torch.ones((), dtype=torch.float64, device=self.device)
        return torch.stack([unity if gate is None else gate.to(unity) for gate in gates])

    def _clip(self, slopes: Mapping[str, Tensor]) -> None:
        """Tell every lane its gradient's L2 norm, and scale down the gradients that are longer than allowed."""
        rows = [slope.reshape(len(slope), -1) for slope in slopes.values()]  # a scalar's is [lanes]
        of_parameters = [row.norm(dim=1) for row in rows]
        norms = torch.stack(of_parameters, dim=1).norm(dim=1)
        for run, norm in zip(self.runs, norms.unbind(0), strict=True):
            run.gradient_norm = norm
        if self._clips is None:
            return
        limits = self._clips.to(norms.dtype)
        shares = torch.where(limits.isinf(), 1.0, (limits / (norms + 1e-6)).clamp(max=1.0))
        for slope in slopes.values():
            slope.mul_(along(shares, slope))

    def _move(self, slopes: Mapping[str, Tensor], rates: Sequence[float]) -> None:
        if self._optimizer is not None:
            names = list(self._stacks)
            stacks, states = [self._stacks[name] for name in names], [self._states[name] for name in names]
            self._optimizer.step(stacks, [slopes[name] for name in names], states, self._rate(rates))
            return
        for lane, (run, rate) in enumerate(zip(self.runs, rates, strict=True)):
            for name, view in self._views[lane].items():
                # laid out as the weights: the optimizer's kernel goes through the memory of both side by side, and what
                # a mapped convolution's second derivative leaves may be transposed
                view.grad = slopes[name][lane].contiguous()
            set_learning_rate(run.optimizer, rate)
            run.optimizer.step()

    def _release(self, gates: Tensor) -> None:
        """Keep the count of steps at 0 where a step was frozen: see `step.release`."""
        if self._optimizer is None:
            for run, gate in zip(self.runs, gates.unbind(0), strict=True):
                run.release_prior(gate)
        elif self._optimizer.counts:
            for name in self._prior:
                self._states[name]["step"].mul_(gates)

    def _update_controllers(self, terms: Mapping[str, Tensor]) -> None:
        if self._controller is not None:
            for name, value in self._controller.update(self._control, terms).items():
                self._control[name].copy_(value)
            return
        for lane, run in enumerate(self.runs):
            if run.state.control:
                own = {name: term[lane] for name, term in terms.items()}
                run.state.control = run.controller.update(run.state.control, own)

    # --- rows of stacks ---------------------------------------------------------------------------------------------

    def _stacked_optimizer(self) -> StackedOptimizer | None:
        """Return the optimizer of all lanes; None where the lanes' own are faster, or are not of one kind."""
        size = sum(stack[0].numel() for stack in self._stacks.values())
        specs = [run.config.optimizer for run in self.runs]
        if (self.device.type == "cpu" and size > SMALL) or len({type(spec) for spec in specs}) > 1:
            return None
        stacked = type(specs[0]).stacked(specs, self.device)
        known = set() if stacked is None else {*stacked.state, *(["step"] if stacked.counts else [])}
        own = {key for run in self.runs for state in run.optimizer.state.values() for key in state}
        return stacked if own <= known else None

    def _stacked_states(self, optimizer: StackedOptimizer) -> dict[str, State]:
        states = {}
        for name, stack in self._stacks.items():
            states[name] = optimizer.fresh(stack)
            for lane, run in enumerate(self.runs):
                state = run.optimizer.state[self._views[lane][name]]
                for key, rows in states[name].items():
                    if key in state:
                        rows[lane].copy_(state[key])
                    state[key] = rows[lane]
        return states

    def close(self) -> None:
        """Give every lane's optimizer, controller and window tensors of its own again."""
        for run in self.runs:
            run.state.control = {name: value.clone() for name, value in run.state.control.items()}
        self._windows.close()
        for lane, run in enumerate(self.runs):
            on_device = bool(run.optimizer.defaults.get("fused") or run.optimizer.defaults.get("capturable"))
            for name, states in self._states.items():
                state = run.optimizer.state[self._views[lane][name]]
                for key in states:
                    place = self.device if on_device or key != "step" else "cpu"
                    state[key] = state[key].to(place, copy=True)


class _Cached:
    """Numbers of the lanes as a tensor [lanes], sent to the device when they change."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._numbers: tuple[float, ...] = ()
        self._tensor = torch.empty(0)

    def __call__(self, numbers: Sequence[float]) -> Tensor:
        if tuple(numbers) != self._numbers:
            self._numbers = tuple(numbers)
            self._tensor = torch.tensor(self._numbers, dtype=torch.float64).to(self._device, non_blocking=True)
        return self._tensor


def _stacked_controller(runs: Sequence[Run], device: torch.device) -> BetaController | None:
    """Return one controller for the stacked state of all lanes'; None where they have no such one."""
    controllers = [run.controller for run in runs]
    first = controllers[0]
    if not isinstance(first, StackableController) or any(type(each) is not type(first) for each in controllers):
        return None
    return first.stacked(controllers, device)


def _rows_of(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the states as stacks [lanes], and put the rows in their places."""
    stacks = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    for lane, state in enumerate(states):
        state.update({name: stack[lane] for name, stack in stacks.items()})
    return stacks
