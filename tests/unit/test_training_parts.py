"""The loop's parts: schedule, timetable, window, poller, optimizer, pictures, batch norm of one worker."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vae_models.collectives import all_gather, all_reduce_sum, data_parallel
from vae_models.config.train import TrainConfig
from vae_models.nn.norm import BatchNorm1d, BatchNorm2d
from vae_models.optimization.specs import (
    AdamConfig,
    ConstantScheduleConfig,
    CosineScheduleConfig,
    OptimizerSpec,
)
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.polling import Poller
from vae_models.training.schedule import Timetable
from vae_models.training.step import (
    StepModule,
    gradient_norm,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from vae_models.training.window import Window

CPU = torch.device("cpu")


# --- schedule and timetable -----------------------------------------------------------------------------------------


def test_cosine_rises_then_falls_to_its_end() -> None:
    lr = CosineScheduleConfig(warmup_epochs=2, final=0.1).build(peak=0.5, steps_per_epoch=5, total_steps=50)
    values = [lr(step) for step in range(50)]
    assert values[:10] == pytest.approx([0.5 * k / 10 for k in range(1, 11)])
    assert values[-1] == pytest.approx(0.05)
    assert values[29] == pytest.approx(0.5 * (0.1 + 0.9 / 2))  # half-way between the warm-up's end and the last step
    assert all(a > b for a, b in pairwise(values[9:]))


def test_constant_after_warmup_and_without() -> None:
    lr = ConstantScheduleConfig(warmup_epochs=0.5).build(peak=2.0, steps_per_epoch=4, total_steps=9)
    assert [lr(step) for step in range(4)] == [1.0, 2.0, 2.0, 2.0]
    assert ConstantScheduleConfig().build(peak=2.0, steps_per_epoch=4, total_steps=9)(0) == 2.0


def test_warmup_longer_than_the_run() -> None:
    lr = CosineScheduleConfig(warmup_epochs=10).build(peak=1.0, steps_per_epoch=10, total_steps=20)
    assert lr(19) == pytest.approx(0.2)


def _timetable(**fields: object) -> Timetable:
    config = TrainConfig.model_validate({"data": {"name": "digits"}, "batch_size": 16, **fields})
    return Timetable.of(config, steps_per_epoch=100 / 16)


def test_epochs_become_steps() -> None:
    assert _timetable(epochs=2).total_steps == 12  # 12.5, to even
    assert _timetable(epochs=0.01).total_steps == 1
    assert _timetable(steps=7).total_steps == 7


@given(every=st.floats(0.05, 5), total=st.integers(1, 200))
def test_one_evaluation_per_interval_and_one_at_the_end(every: float, total: int) -> None:
    timetable = _timetable(steps=total, evaluation={"every_epochs": every})
    due = [step for step in range(total + 1) if timetable.evaluation_due(step)]
    interval = every * 100 / 16
    assert due[-1] == total
    for number, step in enumerate(due[:-1], start=1):  # the first step at or beyond each multiple
        assert step == pytest.approx(number * interval + 0.5, abs=0.5 + 1e-6) or interval < 1
    if interval < 1:
        assert due == list(range(max(1, due[0]), total + 1))


def test_nothing_is_due_before_the_first_step() -> None:
    timetable = _timetable(steps=10, log_every_steps=5, checkpoint={"every_steps": 4})
    assert not any([timetable.log_due(0), timetable.evaluation_due(0), timetable.checkpoint_due(0)])
    assert [step for step in range(11) if timetable.log_due(step)] == [5, 10]
    assert [step for step in range(11) if timetable.checkpoint_due(step)] == [4, 8, 10]


# --- window ---------------------------------------------------------------------------------------------------------


def test_window_means_and_restored_window() -> None:
    values = torch.rand(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, part = Window(10, CPU, torch.float64), Window(10, CPU, torch.float64)
    for loss, rate in values:
        whole.add(loss, {"rate": rate})
    for loss, rate in values[:3]:
        part.add(loss, {"rate": rate})
    resumed = Window(10, CPU, torch.float64)
    resumed.restore(part.names, part.tensors())
    for loss, rate in values[3:]:
        resumed.add(loss, {"rate": rate})
    assert whole.read(1) == resumed.read(1) == dict(zip(("loss", "rate"), values.mean(0).tolist(), strict=True))
    resumed.clear()
    assert resumed.read(8) == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_window_names_the_first_bad_step_and_term(bad: float) -> None:
    window = Window(10, CPU, torch.float32)
    for value in (1.0, 2.0, bad, bad):
        window.add(torch.tensor(1.0), {"rate": torch.tensor(3.0), "distortion": torch.tensor(value)})
    with pytest.raises(NonFiniteLoss, match=r"distortion is .* at step 103") as caught:
        window.read(101)
    assert (caught.value.step, caught.value.term) == (103, "distortion")
    again = pickle.loads(pickle.dumps(caught.value))  # as a process pool or Ray does
    assert (str(again), again.step) == (str(caught.value), 103)


# --- poller ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds_per_tick", [0.0001, 0.01, 0.3, 5.0])
def test_poller_asks_about_once_a_second(seconds_per_tick: float) -> None:
    now, asked = [0.0], []

    def ask() -> bool:
        asked.append(now[0])
        return False

    poller = Poller(ask, CPU, clock=lambda: now[0])
    while now[0] < 60:
        now[0] += seconds_per_tick
        assert not poller.tick()
    gaps = np.diff(asked)
    assert gaps.max() <= max(1.0, seconds_per_tick) * 1.01
    assert np.median(gaps[len(gaps) // 2 :]) >= min(0.6, seconds_per_tick)  # and not much more often


def test_poller_slows_down_with_the_steps() -> None:
    """Fast steps that become slow ones must not delay the answer for long."""
    now, stop_at = [0.0], 20.0
    poller = Poller(lambda: now[0] >= stop_at, CPU, clock=lambda: now[0])
    while not poller.tick():
        now[0] += 0.01 if now[0] < 10 else 0.05
    assert now[0] < stop_at + 2
    assert poller.tick()  # and stays stopped


# --- optimizer and step ---------------------------------------------------------------------------------------------


def _trained(steps: int, model: nn.Module, optimizer: torch.optim.Optimizer, start: int = 0) -> None:
    for step in range(start, start + steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        loss = model(x).square().sum()
        optimizer.zero_grad()
        loss.backward()
        set_learning_rate(optimizer, 0.1 / (step + 1))
        optimizer.step()


def test_adam_is_the_published_adam() -> None:
    weights = [nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))]
    config = AdamConfig(lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)
    optimizer = config.build(weights)
    theta, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 6):
        optimizer.zero_grad()
        (weights[0] ** 3).sum().backward()
        optimizer.step()
        g = 3 * theta**2 + 0.1 * theta
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        theta = theta - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
    np.testing.assert_allclose(weights[0].detach().numpy(), theta, rtol=1e-12)


def test_adam_is_torchs_to_the_bit() -> None:
    ours, theirs = ([nn.Parameter(torch.linspace(-1, 2, 7).sin())] for _ in range(2))
    optimizers = (AdamConfig().build(ours), torch.optim.Adam(theirs, lr=AdamConfig().lr, fused=True))
    for scale in (1.0, 0.5, 0.25):
        for (parameter,), optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (parameter**3).sum().backward()
            set_learning_rate(optimizer, scale * 1e-2)
            optimizer.step()
    assert torch.equal(ours[0], theirs[0])
    kept = [optimizer.state_dict()["state"][0] for optimizer in optimizers]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[1])


def test_a_step_imports_no_compiler_and_what_it_frees_is_kept() -> None:
    """torch imports it at an optimizer's first call, where gradients are averaged and where tensors are counted: a
    second of every process that trains. And glibc keeps 144 MiB that are freed, of which it gives all but 64 back to
    the system otherwise: the next blocks are there without a page fault but a few."""
    code = """
import ctypes, resource, sys, torch
from vae_models import collectives
from vae_models.nn.meter import Meter
from vae_models.optimization.specs import AdamConfig
from vae_models.training.allocator import keep_freed_memory
weight = torch.nn.Parameter(torch.ones(2))
optimizer = AdamConfig().build([weight])
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
collectives.world_size = lambda: 2
averaged = collectives.data_parallel(torch.nn.Linear(2, 1))
averaged(torch.ones(2)).sum().backward()
torch.distributed.destroy_process_group()
with Meter():
    torch.ones(2).sum()
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules], hasattr(averaged, "reducer"))
import torch._dynamo
print(torch._dynamo.utils.get_optimize_ddp_mode())  # as if it had been asked
keep_freed_memory()
if not hasattr(ctypes.CDLL(None), "mallopt"):
    print("another allocator")
else:
    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.ones(6 * 2**20) for _ in range(6)]
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(min(faults() for _ in range(8)))  # a few times until the gaps between blocks have room for one
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=plain
    )
    imported, asked, kept = done.stdout.splitlines()
    assert imported == "[] True"
    assert asked == "ddp_optimizer"
    assert kept == "another allocator" or int(kept) < 100  # of 36,864 pages of 4 KiB


class Momentum(OptimizerSpec):
    """As a package may bring it: gradient descent with momentum, whose state is of another kind than Adam's."""

    kind: Literal["momentum"] = "momentum"
    lr: float = 0.1
    clip_norm: float | None = None

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.lr, momentum=0.9)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [(AdamConfig(), {"step", "exp_avg", "exp_avg_sq"}), (Momentum(), {"momentum_buffer"})],
    ids=["adam", "momentum"],
)
def test_restored_optimizer_goes_on_bit_for_bit(spec: OptimizerSpec, kept: set[str]) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        return model, spec.build(model.parameters())

    whole, optimizer = fresh()
    _trained(6, whole, optimizer)
    half, half_optimizer = fresh()
    _trained(3, half, half_optimizer)
    resumed, resumed_optimizer = fresh()
    resumed.load_state_dict(half.state_dict())
    saved = {name: value.clone() for name, value in optimizer_tensors(half, half_optimizer).items()}
    restore_optimizer(resumed, resumed_optimizer, saved)
    _trained(3, resumed, resumed_optimizer, start=3)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert {name.split("/")[0] for name in saved} == kept


@pytest.mark.parametrize("clip", [None, 0.5, 1e9])
def test_gradient_norm_is_of_the_whole_gradient_before_clipping(clip: float | None) -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([1.0, 2.0, 2.0]), torch.full((2, 2), 2.0)
    assert float(gradient_norm(parameters, clip)) == pytest.approx(5.0)
    left = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters[:2]))
    assert left == pytest.approx(0.5 if clip == 0.5 else 5.0, rel=1e-5)


def test_step_module_maps_over_configurations() -> None:
    """Many lanes under one vmap give each lane's own loss and gradient: the step is a pure function."""
    config = TrainConfig.model_validate(
        {"data": {"name": "mnist"}, "steps": 1, "dtype": "float64",
         "model": {"latent": 2, "backbone": {"kind": "conv", "channels": [2, 3, 4, 4]}}}
    )  # fmt: skip
    steps = []
    for seed in (0, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            steps.append(
                StepModule(config.model.build((1, 28, 28)).double(), config.objective.build(10, (1, 28, 28), 2))
            )
    x = torch.rand(3, 5, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = {"z": torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)}
    beta = torch.tensor([0.1, 1.0, 4.0], dtype=torch.float64)
    parameters, buffers = torch.func.stack_module_state(steps)
    skeleton = steps[0]

    def loss(parameters, buffers, x, noise, beta):  # type: ignore[no-untyped-def]
        return torch.func.functional_call(skeleton, (parameters, buffers), (x, noise, beta))[0]

    grads, losses = torch.func.vmap(torch.func.grad_and_value(loss))(parameters, buffers, x, noise, beta)
    for lane, step in enumerate(steps):
        alone, _ = step(x[lane], {"z": noise["z"][lane]}, beta[lane])
        alone.backward()
        torch.testing.assert_close(losses[lane], alone.detach(), rtol=1e-10, atol=0)
        for name, parameter in step.named_parameters():
            torch.testing.assert_close(grads[name][lane], parameter.grad, rtol=1e-8, atol=1e-9)


# --- one worker is plain PyTorch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_batch_norm_of_one_worker_is_torchs_bit_for_bit(kind: str, momentum: float | None, training: bool) -> None:
    ours, theirs = {"1d": (BatchNorm1d, nn.BatchNorm1d), "2d": (BatchNorm2d, nn.BatchNorm2d)}[kind]
    x = torch.randn({"1d": (6, 3), "2d": (6, 3, 4, 5)}[kind], generator=torch.Generator().manual_seed(0))
    a, b = ours(3, momentum=momentum), theirs(3, momentum=momentum)
    b.load_state_dict(a.state_dict())  # the same keys
    for _ in range(2):
        assert torch.equal(a.train(training)(x), b.train(training)(x))
    for name, value in b.state_dict().items():
        assert torch.equal(a.state_dict()[name], value), name


@pytest.mark.parametrize(("norm", "shape"), [(BatchNorm1d, (2, 3, 4, 5)), (BatchNorm2d, (2, 3))])
def test_batch_norm_refuses_other_shapes(norm: type[nn.Module], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="takes \\[batch, channels"):
        norm(3)(torch.zeros(shape))


def test_collectives_of_one_worker_are_the_identity() -> None:
    x = torch.arange(3.0)
    assert all_reduce_sum(x) is x
    assert torch.equal(all_gather(x), x[None])
    module = nn.Linear(1, 1)
    assert data_parallel(module) is module
