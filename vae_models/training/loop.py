"""The training loop: one for every model, objective, number of workers and place. It knows only a `RunContext`.

What happens after step s (s steps taken) depends on s alone: log, evaluate, checkpoint, in this order. The result
depends on the config alone, not on the number of workers (up to rounding) nor on how often the run was interrupted
(bit for bit on the CPU).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vae_models import collectives, data
from vae_models.config.compatibility import check_data
from vae_models.config.train import TrainConfig
from vae_models.data import support
from vae_models.data.batching import BatchPlan, rank_slice
from vae_models.data.residency import Residence
from vae_models.data.sequences import bucketed
from vae_models.measures import ON_TRAIN
from vae_models.nn.recompute import recompute
from vae_models.optimization.learning_rate import FollowsEvaluations
from vae_models.precision import Precision
from vae_models.protocols import HasCells, Model, Objective, RunContext
from vae_models.training import accumulation, promises
from vae_models.training.allocator import keep_freed_memory
from vae_models.training.checks import check_run
from vae_models.training.compiled import begin_step, compile_step
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.evaluation import NotFinite
from vae_models.training.pictures import pictures
from vae_models.training.polling import POLL_SECONDS, Poller
from vae_models.training.schedule import Timetable
from vae_models.training.speed import Speed
from vae_models.training.state import Position, initial, starting_point, take_weights
from vae_models.training.step import (
    NoiseSource,
    StepModule,
    StepNoise,
    gradient_norm,
    hold,
    internals,
    mean_beta,
    merged,
    release,
    set_learning_rate,
)
from vae_models.training.together import evaluate_runs


@dataclass(frozen=True, kw_only=True)
class Result:
    """`metrics`: the latest value of each name; `stopped`: asked to stop before the end, after a checkpoint."""

    steps: int
    metrics: Mapping[str, float]
    stopped: bool


def train(
    config: TrainConfig,
    context: RunContext,
    *,
    dataset: data.Dataset | None = None,
    poll_seconds: float = POLL_SECONDS,
) -> Result:
    """Train from the context's latest checkpoint, or from the start, to the config's last step.

    Call it on every worker, with `torch.distributed` initialized if there are several. `dataset`: instead of loading
    the one that the config names. `poll_seconds`: how often the context is asked to stop and given the progress.
    Raise DataError before the first step, or in the step whose data cannot be read, NonFiniteLoss, CheckpointError,
    Fenced; on workers other than 0 `collectives.PeerError` where worker 0's own error says more.
    """
    dataset = dataset or data.load(config.data)
    support.check(dataset, config.data, levels=config.model.levels())
    with closing(Run(config, context, dataset, poll_seconds=poll_seconds)) as run:
        return run.run()


class Run:
    """One configuration on its way: `run` takes it to its end, `lanes` take several there together.

    `begin`; then every step is `batch`, `control_beta`, the gradients of `module`'s loss, `apply`, and `after_step`;
    then `end`, and whatever happened `close`. `residence`: where other runs of the same data have their splits.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: RunContext,
        dataset: data.Dataset,
        *,
        poll_seconds: float = POLL_SECONDS,
        residence: Residence | None = None,
    ) -> None:
        check_run(config, context)
        check_data(config, dataset.shape, len(dataset.train))
        self.config = config
        self.context = context
        self.dataset = dataset
        self.poll_seconds = poll_seconds
        self.device, self.dtype = context.device, cast(torch.dtype, getattr(torch, config.dtype))
        if self.device.type == "cpu":
            keep_freed_memory()
        self.precision = Precision(name=config.precision, device_type=self.device.type)
        self.noise = NoiseSource(seed=config.seed, device=self.device, dtype=self.dtype)
        self.splits = residence or Residence(dataset, config.data, self.device, self.dtype, workers=context.world_size)
        self.shares_splits = residence is not None
        self.train_data, self.val_data = self.splits["train"], self.splits["val"]
        self.masks = self.splits.masks("train", shortest=config.shortest)
        self.plan = self._planned()
        self.rows = rank_slice(config.batch_size, context.rank, context.world_size)
        self.passes = accumulation.passes(config.batch_size, config.micro_batch, context.rank, context.world_size)
        self.timetable = Timetable.of(config, self.plan.steps_per_epoch)
        self.lr = config.schedule.build(
            peak=config.optimizer.lr,
            steps_per_epoch=self.plan.steps_per_epoch,
            total_steps=self.timetable.total_steps,
        )
        self.controller = config.beta.build(self.plan.steps_per_epoch)
        self.state = initial(config, self.controller, dataset.shape, self.device, self.dtype)
        self.model, self.optimizer, self.window = self.state.model, self.state.optimizer, self.state.window
        self.parameters = list(self.model.parameters())
        if config.recompute:
            recompute(cast(HasCells, self.model).cells())
        self.fresh: dict[str, float] = {}  # metrics of exactly these weights
        self.made: dict[str, dict[str, float] | NotFinite | None] = {}  # evaluations of this step, see `together`
        self.saved = 0  # the step whose checkpoint is written, with all that is due there
        self.kept: int | None = None  # the step of this run's last checkpoint
        self.sound = 0  # the last step whose state was looked at: all of it was finite
        self._restore()
        objective: Objective = config.objective.build(len(self.train_data), dataset.shape, config.model.dimensions())
        step = StepModule(self.model, objective, self.precision).to(self.device, self.dtype)
        compile_step(step, config, self.device)
        self.module = collectives.data_parallel(step)
        promises.check_foreign(config, self.model, objective, self.controller, data=self.train_data, source=self.noise)
        self.prior_parameters = list(cast(Model, self.model).groups().get("prior", ()))
        self.noise_specs = merged(
            self.train_data.noise(),
            cast(Model, self.model).noise(objective.samples),
            objective.noise(),
            self.controller.noise(),
        )
        self.step_noise = StepNoise(self.noise, self.noise_specs, config.batch_size, self.rows)
        self.speed = Speed(config.batch_size)
        self.batches = self.train_data.reader(self.plan.indices, rows=self.rows, end=self.timetable.total_steps)

    def _planned(self) -> BatchPlan:
        """Return which data are in the batch of each step: of like lengths, where the config says so."""
        size, seed, lengths = self.config.batch_size, self.config.seed, self.dataset.train.lengths
        order = bucketed(lengths, size, seed) if self.config.data.buckets and lengths is not None else None
        return BatchPlan(len(self.train_data), size, seed, self.train_data.index_device, order=order)

    @property
    def at(self) -> Position:
        """Return where the run is."""
        return self.state.at

    @property
    def control(self) -> dict[str, Tensor]:
        """Return the beta controller's state."""
        return self.state.control

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        going = self.begin()
        while going and not self.done:
            self.step()
            going = self.after_step()
        return self.end(stopped=not going)

    def begin(self) -> bool:
        """Do what is due before the first step. Return False when a stop was requested."""
        self.model.train()
        self.poller = Poller(self.ask, self.device, seconds=self.poll_seconds)
        self.speed.restart()
        return self._settle()

    @property
    def done(self) -> bool:
        return self.timetable.is_last(self.at.step)

    def step(self) -> None:
        """Take one optimizer step, alone."""
        x, noise = self.batch()
        begin_step(self.config, self.device)
        with self.precision.products():
            beta, mask = self.control_beta(noise), self.mask()
            for parameter in self.parameters:  # `zero_grad` past its profiler's record
                parameter.grad = None
            loss, terms = accumulation.backward(self.module, self.passes, x, noise, beta, mask)
        self.apply(loss, terms)

    def batch(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return x and noise of the coming step, this worker's rows:
        a function of (data, noise's shapes, seed, step).
        """
        step = self.at.step
        noise = self.step_noise.of(step)
        return self.masks.cut(self.batches.batch(step, noise), self.plan.indices(step)), noise

    def mask(self) -> Tensor | None:
        """Return the mask of the coming step's x, false on padding: see `records.Batch`."""
        return self.masks.of(self.plan.indices(self.at.step), self.rows)

    def control_beta(self, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta of the coming step, [] or [local batch]."""
        self.beta = self.controller.beta(self.control, self.at.step, noise)
        return self.beta

    def apply(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Take the optimizer's step with the gradients that the parameters hold,
        and update the controller and the window.
        """
        step = self.at.step
        gate = self.controller.trains_prior(self.control)
        if gate is not None:
            hold(self.prior_parameters, gate)
        clip = self.config.optimizer.clip_norm
        if clip is not None or self.timetable.log_due(step + 1):
            self.gradient_norm = gradient_norm(self.parameters, clip)
        set_learning_rate(self.optimizer, self.lr(step))
        self.optimizer.step()
        if gate is not None:
            self.release_prior(gate)
        self.state.control = self.controller.update(self.control, terms)
        self.window.add(loss, terms)
        self.taken()

    def release_prior(self, gate: Tensor) -> None:
        """Keep the prior's count of steps at 0 after a step in which it was held: see `step.release`."""
        release(self.optimizer, self.prior_parameters, gate)

    def taken(self) -> None:
        """Count a step, after which nothing that was measured is of the present weights."""
        self.at.step += 1
        self.fresh, self.made = {}, {}
        self.speed.step()

    def after_step(self) -> bool:
        """Do what is due after a step. Return False when a stop was requested;
        a checkpoint of this step is written then.
        """
        return self.stop() if self.poller.tick() else self._settle()

    def stop(self) -> bool:
        """Write a checkpoint of the present step, for another run to go on from.
        Return False, as `after_step` on a stop.
        """
        self._log_if_due()
        if self.saved != self.at.step:
            self._save()
        return False

    def end(self, *, stopped: bool) -> Result:
        self._report_progress()
        return Result(steps=self.at.step, metrics=dict(self.at.latest), stopped=stopped)

    def _settle(self) -> bool:
        """Do what is due after the present step, each thing once, also across a restart.
        Return False if stopped meanwhile.
        """
        step = self.at.step
        self._log_if_due()
        keep = self.timetable.checkpoint_due(step)
        if self.evaluations():
            self.speed.pause()
            complete = self._evaluate()
            self.speed.go_on()
            if not complete:
                self._save()
                return False
            self.saved = -1  # the checkpoint of this step, if there is one, lacks the evaluation
            keep = self._among_the_best() or keep
        if keep and self.saved != step:
            self._save()
        return True

    def ask(self) -> bool:
        """Report the progress; return whether a stop was requested."""
        self._report_progress()
        return self.context.stop_requested()

    def close(self) -> None:
        """End the background work of this run."""
        self.batches.close()
        if not self.shares_splits:
            self.splits.close()

    # --- metrics ----------------------------------------------------------------------------------------------------

    def _log_if_due(self) -> None:
        step = self.at.step
        if not self.timetable.log_due(step) or self.window.count == 0:
            return
        means = self._window_means()
        metrics = {f"train/{name}": value for name, value in means.items()}
        metrics["train/beta"] = mean_beta(self.beta)
        metrics["train/lr"] = self.lr(step - 1)
        metrics["train/grad_norm"] = float(self.gradient_norm)
        metrics["epoch"] = step / self.plan.steps_per_epoch
        metrics |= internals(self.model, self.control)
        speed = self.speed.images_per_second()
        if speed is not None:
            metrics["images_per_second"] = speed
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._failure(name, value, step, self.plan.indices(step - 1))
        self.window.clear()
        self._log(metrics)
        self.speed.restart()

    def _window_means(self) -> dict[str, float]:
        try:
            return self.window.read(self.at.step - self.window.count + 1)
        except NonFiniteLoss as error:
            raise self._failure(error.term, error.value, error.step, self.plan.indices(error.step - 1)) from None

    def _failure(
        self, term: str, value: float, step: int, data: Tensor | None = None, split: str = "train"
    ) -> NonFiniteLoss:
        """Return the error of a number that is not finite.

        data: the indices, in `split`, of the data that it was computed from; None where it is of all data before.
        """
        indices: tuple[int, ...] = ()
        unfit: tuple[int, ...] = ()
        if data is not None:
            indices, unfit = tuple(data.tolist()), self.splits[split].unfit(data)
        name = {"train": "training", "val": "validation"}.get(split, split)
        return NonFiniteLoss(step, term, value, indices, split=name, unfit=unfit, kept=self.kept)

    def _log(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics, all of them finite."""
        self.fresh.update(metrics)
        self.at.latest.update(metrics)
        if self.context.rank == 0:
            self.context.log_metrics(self.at.step, metrics)

    def _report_progress(self) -> None:
        if self.context.rank != 0:
            return
        speed = self.speed.images_per_second() or self.at.latest.get("images_per_second")
        self.context.progress(self.at.progress(self.timetable, self.config.batch_size, speed))

    # --- evaluation -------------------------------------------------------------------------------------------------

    def _evaluate(self) -> bool:
        """Evaluate on val, at the end on test and train if the config says so, and draw pictures.

        Return False, with nothing reported, if stopped. Raise NonFiniteLoss where the state or a number of the
        evaluation is not finite: the run ends with nothing reported or saved of this step, so no earlier value is taken
        for this one, and the last checkpoint stays.
        """
        self.check_state()
        metrics: dict[str, float] = {}
        for name, split in self.evaluations().items():
            of_split = self._evaluated_on(name, split)
            if of_split is None:
                return False
            metrics |= of_split
        self._log(metrics)
        self._follow(metrics)
        self.at.evaluated = self.at.step
        if self.context.rank == 0 and self.config.evaluation.pictures:
            shown = pictures(
                self.model,
                self.val_data,
                self.noise,
                self.config.evaluation.sampler.build(),
                masks=self.splits.masks("val").of,
                vocabulary=self.dataset.vocabulary,
            )
            for name, png in shown.items():
                self.context.log_picture(self.at.step, name, png)
        return True

    def _follow(self, metrics: Mapping[str, float]) -> None:
        """Tell a learning rate that follows evaluations of this one."""
        goal = self.config.checkpoint.goal
        if isinstance(self.lr, FollowsEvaluations) and goal.metric in metrics:
            score = goal.score(metrics[goal.metric])
            self.at.scores.append([self.at.step, score])
            self.lr.observe(self.at.step, score)

    def evaluations(self) -> dict[str, str]:
        """Return the evaluations that are due at the present step, by name: the split of each."""
        if not self.timetable.evaluation_due(self.at.step) or self.at.evaluated == self.at.step:
            return {}
        settings, last = self.config.evaluation, self.timetable.is_last(self.at.step)
        more = {"test": "test"} if settings.test and last else {}
        return {"val": "val"} | more | ({ON_TRAIN: "train"} if settings.train and last else {})

    def betas_due(self) -> tuple[float, ...]:
        """Return the beta beside 1 at which a multi-rate model is evaluated at the present step."""
        settings = self.config.evaluation
        at_each = self.timetable.is_last(self.at.step) or not settings.betas_at_end_only
        return settings.betas if at_each else ()

    def _evaluated_on(self, name: str, part: str) -> dict[str, float] | None:
        """Return the metrics at beta = 1 and, where the config says so, at other beta of a multi-rate model;
        None if stopped.

        part: the split to evaluate on.
        """
        if name not in self.made:
            evaluate_runs([self], name)
        metrics = self.made.pop(name)
        if isinstance(metrics, NotFinite):
            raise self._failure(metrics.metric, metrics.value, self.at.step, torch.tensor(metrics.data), part)
        return metrics

    def _among_the_best(self) -> bool:
        """Return whether the evaluation just made is one of the `keep_best` so far."""
        value = self.fresh.get(self.config.checkpoint.metric)
        if value is None:
            return False
        settings = self.config.checkpoint
        return self.at.among_the_best(settings.goal.score(value), settings.keep_best)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write a checkpoint of the present step, on rank 0. Raise NonFiniteLoss if something in it is not finite."""
        self.speed.pause()
        self.check_state()
        collectives.on_first_rank(self._write, self.device)
        self.saved = self.kept = self.at.step
        self.speed.go_on()

    def check_state(self) -> None:
        """Raise NonFiniteLoss where a loss since the last log, the weights,
        the optimizer or the controller are not finite.

        It waits for the device, once a step.
        """
        if self.sound == self.at.step:
            return
        self._window_means()  # they name the first step that went wrong
        if (unsound := self.state.unsound(self.device)) is not None:
            name, value = unsound
            raise self._failure(f"an element of {name}", value, self.at.step)
        self.sound = self.at.step

    def _write(self) -> None:
        data = self.dataset
        self.state.save(self.context, self.config, data.shape, dict(self.fresh), data.vocabulary_digest)

    def _restore(self) -> None:
        start = starting_point(self.context, self.config, self.device)
        if start is None:
            take_weights(self.context, self.state.model)
            return
        self.state.restore(start.snapshot, self.device)
        if isinstance(self.lr, FollowsEvaluations):
            for step, score in self.at.scores:
                self.lr.observe(int(step), score)
        self.fresh = dict(start.snapshot.manifest.metrics)
        self.saved, self.kept = (self.at.step, self.at.step) if start.own else (-1, None)
