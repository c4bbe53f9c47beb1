"""What a training run would be: its spec, and how much memory a worker of it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.cli import output
from service.cli.submit import print_spec
from service.kinds.train.spec import TrainSpec

if TYPE_CHECKING:
    from service.queue.jobs import Resources
    from vae_models.config.train import TrainConfig
    from vae_models.training.memory import Memory

MIB = 2**20
SECONDS = 30.0  # that somebody waits for it


def plan(spec: TrainSpec) -> None:
    """Print the spec to stdout, and what is known of its memory to stderr."""
    print_spec(spec, json=False)
    for line in memory_lines(spec.train, spec.resources):
        output.note(line)


def memory_lines(config: TrainConfig, resources: Resources) -> list[str]:
    """Return what one worker's tensors take and consist of, and a warning where the gang asks for less memory."""
    from vae_models.training.memory import TakesLong, memory_of

    try:
        memory = memory_of(config, workers=resources.workers, seconds=SECONDS)
    except TakesLong:
        return [f"Memory: not known before it runs, since tracing a step takes longer than {SECONDS:.0f} s."]
    except Exception as error:  # of a part that reads values, whosever it is: the run may well do
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return [f"Memory: not known before it runs, since a step cannot be traced ({reason})."]
    return [said(memory, config, resources), *warnings(memory, config, resources)]


def said(memory: Memory, config: TrainConfig, resources: Resources) -> str:
    """Return the sentence about one worker's memory."""
    shared = f" / {resources.workers} workers" if resources.workers > 1 else ""
    passes = "" if config.micro_batch is None else f" in passes of {config.micro_batch}"
    return (
        f"Memory of a worker: {_mib(memory.total)} of tensors at most: data {_mib(memory.data)}, weights "
        f"{_mib(memory.weights)}, optimizer {_mib(memory.optimizer)}, and a step of {config.batch_size} data{shared}"
        f"{passes} {_mib(memory.step)} or an evaluation of {config.evaluation.batch_size} {_mib(memory.evaluation)}. "
        "Beside them the process itself takes some hundred MiB."
    )


def warnings(memory: Memory, config: TrainConfig, resources: Resources) -> list[str]:
    """Return what is wrong with the memory that the gang asks for; nothing where it asks for none."""
    asked = resources.memory_per_worker
    if resources.gpus_per_worker > 0 or asked == 0 or asked >= memory.total:
        return []
    largest = max(memory.step, memory.evaluation)
    ways = [
        f"ask for more (--set resources.memory_per_worker={memory.total + 512 * MIB})",
        "evaluate fewer data at a time (--set evaluation.batch_size=...)" if largest > memory.step else
        "take a batch in passes (--set micro_batch=...) or a smaller one (--set batch_size=...)",
    ]  # fmt: skip
    if memory.data > largest:
        ways.append("read the data from the disk (--set data.residency=stream)")
    than = f"resources.memory_per_worker is {_mib(asked)}, less than the tensors alone take"
    return [f"Warning: {than}: {', or '.join(ways)}."]


def _mib(count: int) -> str:
    return f"{count / MIB:,.1f} MiB"
