"""What packs save: one study of short trials on a Ray cluster of this machine, run in three ways, one after the other.

    python -m tests.benchmarks.study [--trials 21] [--steps 300] [--at-once 2] [--ways packs groups]

- packs: Ray Tune runs `--at-once` packs, each of which trains its share of the trials in one process;
- processes: Ray Tune runs every trial in a process of its own, `--at-once` side by side;
- groups: Ray Tune runs every trial as a Ray Train group of one worker, as a trial on several GPUs would be.

Seven learning rates by seeds, MLP 400-400 on static binarized MNIST, one thread each, one evaluation at the end.
Seconds are of the whole search, the start of processes, imports and data included; the cluster stands already. Beside
them: the steps per second that the packs reached, and those of a plain loop over the same model in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

RATES = [0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001]
PLAIN_STEPS = 200


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


def train_pack(text: str, folder: str, numbers: Sequence[int]) -> None:
    """In a worker's process: these trials of the study as one pack. It leaves when each of its parts began."""
    stamps = {"imports": time.time()}
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
    mine = [every[number] for number in numbers]
    contexts = [LocalContext(Path(folder) / str(number)) for number in numbers]
    widths = Widths()
    stamps["data"] = time.time()
    dataset = data.load(mine[0].config.data)
    stamps["training"] = time.time()
    pack.train(
        stage, mine, contexts, assignments=len(RATES), dataset=dataset, width=None,
        widths=widths, rungs=Memory(), stopping=lambda: False, on_end=lambda trial, outcome: None,
    )  # fmt: skip
    stamps["end"] = time.time()
    Path(folder, f"stamps-{numbers[0]}.json").write_text(json.dumps(stamps))


def train_one(text: str, folder: str, number: int) -> None:
    """In a worker's process: one trial."""
    import torch

    from vae_models.training.context import LocalContext
    from vae_models.training.loop import train

    torch.set_num_threads(1)
    train(trials_of(text)[number].config, LocalContext(Path(folder) / str(number)))


def with_packs(text: str, folder: str, at_once: int) -> None:
    from functools import partial

    from tuning import pack, ray_tune
    from tuning.study import StudyConfig

    stage = StudyConfig.model_validate_json(text).stages[0]
    shares = [[trial.number for trial in share] for share in pack.packs(trials_of(text), stage, at_once)]
    errors = ray_tune.run_packs(
        shares, partial(train_pack, text, folder), name="packs", folder=Path(folder) / "tune", bundle={"CPU": 1.0},
        at_once=at_once, restarts=0,
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


def parts_of(folder: str, began: float) -> str:
    """Return where the packs' time went, in seconds, by the stamps that they left; began: when the search did."""
    lines = []
    for path in sorted(Path(folder).glob("stamps-*.json")):
        stamps = json.loads(path.read_text())
        began_at = [began, *stamps.values()]
        names = ["start of the process", *stamps]
        parts = [f"{name} {until - since:.1f}" for name, (since, until) in zip(names, pairwise(began_at), strict=False)]
        lines.append(f"  a pack: {', '.join(parts)}, until it is known {time.time() - stamps['end']:.1f} s")
    return "\n".join(lines)


def plain_steps_per_second(text: str) -> float:
    """A loop of its own: forward, backward, Adam on batches of the same data; one thread."""
    import torch

    from vae_models import data
    from vae_models.training.context import LocalContext
    from vae_models.training.loop import Run

    torch.set_num_threads(1)
    config = trials_of(text)[0].config
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, LocalContext(Path(folder)), data.load(config.data))
        run.model.train()
        optimizer = torch.optim.Adam(run.model.parameters(), lr=1e-3)
        batches = [run.batch() for _ in range(8)]
        beta = torch.ones(())
        began = 0.0
        for step in range(PLAIN_STEPS + 10):
            if step == 10:
                began = time.perf_counter()
            loss, _ = run.module(*batches[step % len(batches)], beta)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return PLAIN_STEPS / (time.perf_counter() - began)


WAYS: Mapping[str, Callable[[str, str, int], None]] = {
    "packs": with_packs,
    "processes": with_processes,
    "groups": with_groups,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=21)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="packs is always one")
    options = parser.parse_args()
    from service.attempt import ray_cluster
    from tuning import ray_tune

    for name, value in {**ray_cluster.ENVIRONMENT, **ray_tune.ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0"}.items():
        os.environ.setdefault(name, value)
    import ray

    text = study(options.trials, options.steps).model_dump_json()
    plain = plain_steps_per_second(text)
    ray.init(address="local", num_cpus=options.at_once, include_dashboard=True, logging_level="WARNING",
             runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}, log_to_driver=False)  # fmt: skip
    seconds: dict[str, float] = {}
    for name in dict.fromkeys(("packs", *options.ways)):
        with tempfile.TemporaryDirectory() as folder:
            began = time.time()
            WAYS[name](text, folder, options.at_once)
            seconds[name] = time.time() - began
            where = parts_of(folder, began)
        print(f"{name}: {seconds[name]:.1f} s, {seconds[name] / seconds['packs']:.2f} times packs", flush=True)
        if where:
            print(where, flush=True)
    ray.shutdown()
    reached = options.trials * options.steps / seconds["packs"]
    print(
        f"{options.trials} trials of {options.steps} steps, {options.at_once} at once: packs reach {reached:.0f} "
        f"steps/s in all, starts and evaluations included; a plain loop in one process {plain:.0f} steps/s, "
        f"{reached / (plain * options.at_once):.2f} of as many plain loops"
    )


if __name__ == "__main__":
    main()
