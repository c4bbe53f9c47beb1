"""What packs save: one study of short trials on a Ray cluster of this machine, run in several ways in turn.

    python -m tests.benchmarks.study [--trials 21] [--steps 300] [--at-once 2] [--ways packs cold groups]

- packs: Ray Tune runs `--at-once` packs, which take the trials from the study's board until none is left, and finds
  processes that wait with everything imported, as the service's stack holds them ready (`service.attempt.preload`);
- cold: the same on a cluster where none waits;
- processes: Ray Tune runs every trial in a process of its own, `--at-once` side by side;
- groups: Ray Tune runs every trial as a Ray Train group of one worker, as a trial on several GPUs would be. With
  `--few N` only N trials are run in this way, and the seconds are those times trials / N.

Seven learning rates by seeds, MLP 400-400 on static binarized MNIST, one thread each, one evaluation at the end.
Seconds are of the whole search, the start of processes, imports and data included; the cluster stands already. Beside
them: `--at-once` plain loops over the same model and data that compute at the same time (`plain_loops`), measured
before and after the packs, and what a search that starts in no time and steps as they do would reach.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks import plain_loops

RATES = [0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001]
WARM_SECONDS = 180.0  # until the processes that wait have their imports
LOOK_SECONDS = 0.2


def study(trials: int, steps: int) -> Any:
    from tuning.study import StudyConfig

    base = {
        "data": {"name": "binarized-mnist"},
        "model": {"latent": 32, "backbone": {"kind": "mlp", "hidden": [400, 400]}},
        "steps": steps,
        "log_every_steps": 100,
        "evaluation": {"every_epochs": 1000, "pictures": False, "test": False},
        "checkpoint": {"every_steps": 1_000_000},
    }
    seeds = list(range(-(-trials // len(RATES))))
    stage = {"name": "rates", "space": {"optimizer.lr": RATES[: min(trials, len(RATES))]}, "repeats": seeds}
    return StudyConfig.model_validate({"base": base, "stages": [stage]})


def trials_of(text: str) -> list[Any]:
    from tuning.study import StudyConfig, trials

    config = StudyConfig.model_validate_json(text)
    return list(trials(config.stages[0], config.base))


def train_pack(text: str, folder: str, board: Any, packs: Sequence[int]) -> None:
    """In a worker's process: what the board hands to this pack. It leaves when each of its parts began."""
    stamps: dict[str, Any] = {"imports": time.time()}
    import ray
    import torch

    from tuning import pack
    from tuning.pruners.rules import Memory
    from tuning.study import StudyConfig
    from vae_models import data
    from vae_models.training.context import LocalContext
    from vae_models.training.lanes import Widths

    torch.set_num_threads(1)
    stage = StudyConfig.model_validate_json(text).stages[0]
    every = trials_of(text)
    widths, (number,), ended = Widths(), packs, list[int]()
    stamps["data"] = time.time()
    dataset = data.load(every[0].config.data)
    stamps["training"] = time.time()
    pack.train(
        stage, lambda most, running: [every[each] for each in ray.get(board.take.remote(number, most, running))],
        lambda trial: LocalContext(Path(folder) / str(trial.number)), assignments=len(RATES),
        load=lambda config: dataset, width=None, widths=widths, rungs=Memory(), stopping=lambda: False,
        on_end=lambda trial, outcome: ended.append(trial.number),
    )  # fmt: skip
    stamps["end"] = time.time()
    stamps["widths"] = {"chosen": widths.chosen, "seconds": widths.seconds, "trials": len(ended)}
    Path(folder, f"stamps-{number}.json").write_text(json.dumps(stamps))


def train_one(text: str, folder: str, number: int) -> None:
    """In a worker's process: one trial."""
    import torch

    from vae_models.training.context import LocalContext
    from vae_models.training.loop import train

    torch.set_num_threads(1)
    train(trials_of(text)[number].config, LocalContext(Path(folder) / str(number)))


def with_packs(text: str, folder: str, at_once: int) -> None:
    from functools import partial

    import ray

    from service.kinds.study.board import Board
    from tuning import pack, ray_tune
    from tuning.study import StudyConfig

    stage = StudyConfig.model_validate_json(text).stages[0]
    units = pack.units(trials_of(text), stage)
    options = {"num_cpus": 0, "runtime_env": {"env_vars": {"STUDY_BOARD": "1"}}}  # as a study's driver starts it
    board: Any = ray.remote(**options)(Board).remote()
    offered = [[[trial.number for trial in unit] for unit in of_one_set] for of_one_set in units]
    ray.get(board.offer.remote(offered, at_once))
    errors = ray_tune.run_packs(
        [[number] for number in range(at_once)], partial(train_pack, text, folder, board), name="packs",
        folder=Path(folder) / "tune", bundle={"CPU": 1.0}, at_once=at_once, restarts=0, bare=True,
    )  # fmt: skip
    assert not errors, errors


def with_processes(text: str, folder: str, at_once: int) -> None:
    _tune(text, folder, at_once, lambda number: train_one(text, folder, number), {"CPU": 1.0})


def with_groups(text: str, folder: str, at_once: int) -> None:
    def work(number: int) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        TorchTrainer(
            lambda: train_one(text, folder, number),
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1.0}),
            run_config=RunConfig(name=f"trial-{number}", storage_path=str(Path(folder) / "train")),
        ).fit()

    _tune(text, folder, at_once, work, {"CPU": 0.01})


def _tune(text: str, folder: str, at_once: int, work: Callable[[int], None], bundle: dict[str, float]) -> None:
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    def trainable(config: dict[str, Any]) -> None:
        work(config["trial"])
        tune.report({"ended": 1})

    found = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([bundle])),
        param_space={"trial": tune.grid_search(list(range(len(trials_of(text)))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=False),
        run_config=tune.RunConfig(
            name="each", storage_path=str(Path(folder) / "tune"), verbose=0, callbacks=[JsonLoggerCallback()]
        ),
    ).fit()
    assert not found.errors, found.errors


def parts_of(folder: str, began: float, imported: float, ended: float) -> str:
    """Return where the packs' time went, in seconds, by the stamps that they left.

    began, ended: of the search; imported: when it had Ray Tune
    """
    lines = []
    for path in sorted(Path(folder).glob("stamps-*.json")):
        stamps = json.loads(path.read_text())
        widths = stamps.pop("widths")
        moments = [began, imported, *stamps.values(), ended]
        names = ["import of Ray Tune", "start of the process", *stamps]
        parts = [f"{name} {until - since:.2f}" for name, (since, until) in zip(names, pairwise(moments), strict=True)]
        measured = ", ".join(f"{width}: {seconds:.4f}" for width, seconds in widths["seconds"].items())
        of, at_a_time = widths["trials"], widths["chosen"]
        lines.append(f"  a pack of {of} trials: {', '.join(parts)} s; fused {at_a_time} at a time of {measured}")
    return "\n".join(lines)


WAYS: Mapping[str, Callable[[str, str, int], None]] = {
    "packs": with_packs,
    "cold": with_packs,
    "processes": with_processes,
    "groups": with_groups,
}


@contextlib.contextmanager
def cluster(at_once: int, *, warm: bool) -> Iterator[None]:
    """Stand up Ray on this machine. warm: `at_once` processes wait with everything imported"""
    from service.attempt import preload

    if warm:
        os.environ[preload.PRELOADING] = preload.MODULE
    import ray

    ray.init(address="local", num_cpus=at_once, include_dashboard=True, logging_level="WARNING", log_to_driver=False)
    try:
        if warm:
            ready(at_once)
        yield
    finally:
        ray.shutdown()
        os.environ.pop(preload.PRELOADING, None)


def ready(count: int) -> None:
    """Have so many processes wait, and wait for them."""
    import psutil

    from service.attempt import preload
    from service.queue.jobs import Resources

    def waiting() -> int:
        children = psutil.Process().children(recursive=True)
        names = [each.cmdline() for each in children if each.is_running()]
        return sum(bool(name) and name[0].startswith(preload.READY) for name in names)

    preload.refill(Resources(workers=count - waiting(), cpus_per_worker=1))
    deadline = time.monotonic() + WARM_SECONDS
    while waiting() < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{waiting()} of {count} processes were ready after {WARM_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


def search(name: str, trials: int, steps: int, at_once: int) -> float:
    """Return the seconds of one search on the cluster that stands."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        import ray.tune  # noqa: F401 - each way's first import, in its time

        imported = time.time()
        WAYS[name](study(trials, steps).model_dump_json(), folder, at_once)
        ended = time.time()
        print(f"{name}: {trials} trials in {ended - began:.1f} s", flush=True)
        if where := parts_of(folder, began, imported, ended):
            print(where, flush=True)
    return ended - began


def beside(seconds: float, loops: Sequence[plain_loops.Plain], trials: int, steps: int, at_once: int) -> None:
    """Print the search's steps per second beside those of the plain loops, and the bound of that."""
    reached = trials * steps / seconds
    print(
        f"{trials} trials of {steps} steps, {at_once} at once: {reached:.1f} steps/s in all, starts and evaluations in"
    )
    evaluation = statistics.fmean(each.evaluation for each in loops)
    rounds = -(-trials // at_once)
    for words, name in (("torch's Adam as it comes", "step"), ("its fused kernel", "fused_step")):
        each = [getattr(loop, name) for loop in loops]
        step = statistics.fmean(each)
        most = trials * steps / (rounds * (steps * step + evaluation)) * step / at_once
        print(
            f"  {at_once} plain loops side by side, {words}: {at_once / step:.1f} steps/s "
            f"({', '.join(f'{at_once / value:.1f}' for value in each)}), {reached * step / at_once:.3f} of them; "
            f"starting in no time and stepping as they do: {most:.3f}"
        )
    print(f"  an evaluation takes {evaluation:.3f} s; a process trains {rounds} trials of {trials / at_once:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=21)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--few", type=int, help="trials of groups, scaled up; none: all")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="packs is always one")
    options = parser.parse_args()
    trials, steps, at_once = options.trials, options.steps, options.at_once
    from service.attempt import ray_cluster
    from tuning import ray_tune

    own = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # as the stack's Ray has it
    for name, value in {**ray_cluster.ENVIRONMENT, **ray_tune.ENVIRONMENT, **own}.items():
        os.environ.setdefault(name, value)
    config = trials_of(study(trials, steps).model_dump_json())[0].config
    loops = [plain_loops.measure(config, at_once)]
    with cluster(at_once, warm=True):
        packs = search("packs", trials, steps, at_once)
    loops.append(plain_loops.measure(config, at_once))
    beside(packs, loops, trials, steps, at_once)
    others = [name for name in dict.fromkeys(options.ways) if name != "packs"]
    if not others:
        return
    with cluster(at_once, warm=False):
        for name in others:
            few = min(options.few or trials, trials) if name == "groups" else trials
            seconds = search(name, few, steps, at_once) * trials / few
            print(f"{name}: {seconds:.1f} s, {seconds / packs:.2f} times packs", flush=True)


if __name__ == "__main__":
    main()
