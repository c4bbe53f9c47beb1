"""bench: what a training step costs on this machine."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import output
from service.cli.arguments import AsJson
from service.errors import UsageError


def bench(
    families: Annotated[
        list[str] | None, typer.Argument(metavar="[FAMILY]...", help="mlp, cnn, resnet, ...; all.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, on the CPU.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Of which medians are taken.")] = 7,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Beside each a run with compile: step, which compiles for minutes.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write --json's there after every family.", show_default=False)
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="The GPU's section instead: at most 8 minutes.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Measure nothing: two files of --json.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure training steps here: beside plain PyTorch loops, pythae if it is installed, and what the machine can do.

    No servers, no data and no network. A ratio above 1 means that vaesvc is faster.
    """
    from service.bench import report

    if compare is not None:
        rows = report.compared(*(report.read(path) for path in compare))
        if not rows:
            raise UsageError(f"{compare[0]} and {compare[1]} have no family in common: nothing can be compared")
        output.table(report.COMPARED, rows)
        return
    if gpu:
        _gpu(json)
        return
    from service.bench.families import FAMILIES

    unknown = [name for name in families or () if name not in FAMILIES]
    if unknown:
        raise UsageError(f"there is no family {unknown[0]!r}: there are {', '.join(FAMILIES)}")
    if save is not None and not save.absolute().parent.is_dir():
        raise UsageError(f"--save {save}: there is no folder {save.absolute().parent}; make it first")
    from service.bench.measure import bench as measured

    names = families or list(FAMILIES)
    began, results = time.monotonic(), dict[str, Any]()
    for results in measured(names, threads=threads, rounds=rounds, compiled=compiled):
        each, count = results["families"][-1], len(results["families"])
        left = (time.monotonic() - began) / count * (len(names) - count)
        step = f"{each['seconds']['vaesvc'] * 1e3:.2f} ms"
        output.note(
            f"{each['family']}: {step}, {count} of {len(names)} families, left {timedelta(seconds=round(left))}"
        )
        if save is not None:
            report.write(save, results)
    if json:
        output.as_json(results)
        return
    output.table(report.header(results), [report.row(each) for each in results["families"]])
    for line in report.notes(results):
        output.data(line)


def _gpu(json: bool) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError("there is no GPU here that torch can use: vaesvc bench without --gpu measures the CPU")
    from service.bench import gpu

    results = gpu.bench(torch.device("cuda"), say=output.note)
    if json:
        output.as_json(results)
        return
    output.data(f"{results['machine']['device']}, torch {results['machine']['torch']}")
    output.table(gpu.HEADER, gpu.rows(results))
    for line in results["left_out"]:
        output.data(line)
