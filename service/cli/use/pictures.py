"""reconstruct, sample, interpolate, traverse: to look at (.png), or as numbers (.npz)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import output
from service.cli.use import options
from service.cli.use.options import Beta, Code, Data, Device, Limit, Model, Seed, Split
from service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.cli.use.models import Opened
    from service.cli.use.source import Source

SHOWN = 32  # data of a picture, unless --limit says more
OUT = "A .png to look at, or an .npz with the numbers."

Steps = Annotated[int, typer.Option("--steps", help="Pictures of each way, both ends among them.")]


def reconstruct(
    model: Model,
    data: Data,
    out: Annotated[Path, options.out(OUT)],
    split: Split = "test",
    limit: Limit = None,
    seed: Seed = 0,
    beta: Beta = None,
    device: Device = "auto",
    code: Code = None,
) -> None:
    """Write E[x|z] at the posterior's mean of each datum; a picture has the originals over them."""
    from service.cli.use import files, models, source, work

    picture = files.suffix(out, ".png", ".npz") == ".png"
    with models.opened(model, device, code) as opened, models.mistakes():
        used = opened.model
        _check(opened, picture)
        shown = SHOWN if picture and limit is None else limit
        with source.opened(used, data, split=split, limit=shown, seed=seed) as rows:

            def batch(start: int, end: int) -> Mapping[str, Any]:
                x = rows.x(start, end)
                mean = used.reconstruct(x, beta=beta)
                target = x[:, x.shape[1] - mean.shape[1] :]  # without a first frame or token that is given
                return {"x": target.cpu(), "mean": mean}

            made = work.in_batches(batch, rows.count, what="reconstructing")
            about = _about(opened, rows, seed=seed, beta=beta)
        _write(out, made, about, lambda: _rows_of_two(made["x"], made["mean"]))


def sample(
    model: Model,
    out: Annotated[Path, options.out(OUT)],
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 64,
    sampler: Annotated[str, typer.Option("--sampler", help="The law of z: prior, or one that was fitted.")] = "prior",
    temperature: Annotated[
        float, typer.Option("--temperature", help="Standard deviations of z are multiplied by it.")
    ] = 1.0,
    form: Annotated[str, typer.Option("--form", help="means: E[x|z]; samples: x ~ p(x|z).")] = "means",
    seed: Seed = 0,
    beta: Beta = None,
    device: Device = "auto",
    code: Code = None,
) -> None:
    """Draw samples. The same seed gives the same ones, the first of them whatever the count."""
    from service.cli.use import files, models, work

    picture = files.suffix(out, ".png", ".npz") == ".png"
    with models.opened(model, device, code, fitted=_is_fitted(sampler)) as opened, models.mistakes():
        _check(opened, picture)
        choices: dict[str, Any] = {
            "sampler": sampler, "temperature": temperature, "form": form, "seed": seed, "beta": beta,
        }  # fmt: skip

        def batch(start: int, end: int) -> Mapping[str, Any]:
            return {"x": opened.model.sample(end - start, first=start, **choices)}

        made = work.in_batches(batch, count, what="sampling", unit="samples")
        _write(out, made, {"model": opened.called, **choices}, lambda: _square(made["x"]))


def _is_fitted(sampler: str) -> bool:
    """Return whether a law of this name is fitted to a model, and so may have to be fetched."""
    from vae_models.samplers.specs import SAMPLERS

    spec = SAMPLERS.find(sampler)
    return spec is None or spec.fitted


def interpolate(
    model: Model,
    data: Data,
    out: Annotated[Path, options.out(OUT)],
    pair: Annotated[
        list[str] | None,
        typer.Option(
            "--pair",
            metavar="A:B",
            help="From datum A to datum B of the split, counted from 0; repeatable. Default: 0:1, 2:3, ...",
            show_default=False,
        ),
    ] = None,
    steps: Steps = 9,
    how: Annotated[
        str, typer.Option("--how", help="linear, slerp, or graph: the shortest by the decoder's metric.")
    ] = "linear",
    split: Split = "test",
    seed: Seed = 0,
    beta: Beta = None,
    device: Device = "auto",
    code: Code = None,
) -> None:
    """Write E[x|z] on the way from one datum's latent to another's: a row for each pair."""
    import numpy as np

    from service.cli.use import files, models, source

    picture = files.suffix(out, ".png", ".npz") == ".png"
    with models.opened(model, device, code) as opened, models.mistakes():
        used = opened.model
        _check(opened, picture)
        with source.opened(used, data, split=split, seed=seed) as rows:
            pairs = _pairs(pair, rows)
            a, b = (np.concatenate([_datum(rows, at) for at in side]) for side in zip(*pairs, strict=True))
            means = used.interpolate(a, b, steps=steps, how=how, seed=seed, beta=beta)
            about = _about(opened, rows, seed=seed, beta=beta) | {"how": how}
        made = {"from": np.array(pairs)[:, 0], "to": np.array(pairs)[:, 1], "mean": means}
        labels = [f"{a} to {b}" for a, b in pairs]
        _write(out, made, about, lambda: _grid(means, steps, labels, None))


def traverse(
    model: Model,
    data: Data,
    out: Annotated[Path, options.out(OUT)],
    index: Annotated[int, typer.Option("--index", min=0, help="The datum of the split whose latent is changed.")] = 0,
    dimension: Annotated[
        list[int] | None,
        typer.Option("--dimension", metavar="J", help="This dimension of z, from 0; repeatable.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Without --dimension: those that carry most of x.")] = 8,
    steps: Steps = 9,
    low: Annotated[float, typer.Option("--low", help="First value of the dimension.")] = -3.0,
    high: Annotated[float, typer.Option("--high", help="Last value.")] = 3.0,
    split: Split = "test",
    seed: Seed = 0,
    beta: Beta = None,
    device: Device = "auto",
    code: Code = None,
) -> None:
    """Write E[x|z] while one dimension of a datum's latent changes: a row for each dimension."""
    from service.cli.use import files, models, source

    picture = files.suffix(out, ".png", ".npz") == ".png"
    with models.opened(model, device, code) as opened, models.mistakes():
        used = opened.model
        _check(opened, picture)
        with source.opened(used, data, split=split, seed=seed) as rows:
            _inside(index, rows, "--index")
            chosen = dimension or _carrying_most(used, rows, top, beta)
            x = _datum(rows, index)
            walk = used.traverse(x, dimensions=chosen, steps=steps, low=low, high=high, beta=beta)
            about = _about(opened, rows, seed=seed, beta=beta) | {"index": index}
        made = {"dimensions": walk.dimensions, "values": walk.values, "mean": walk.means[0]}
        labels = [f"z_{j}" for j in walk.dimensions]
        _write(out, made, about, lambda: _grid(walk.means[0], steps, labels, [f"{value:g}" for value in walk.values]))


def _carrying_most(used: Any, rows: Source, top: int, beta: float | None) -> list[int]:
    """Return the dimensions that carry most of the split's first data."""
    some = rows.x(0, min(rows.count, 1024)).cpu().numpy()
    return [int(j) for j in used.informative(some, beta=beta)[:top]]


def _datum(rows: Source, index: int) -> Any:
    return rows.x(index, index + 1).cpu().numpy()


def _pairs(given: list[str] | None, rows: Source) -> list[tuple[int, int]]:
    if not given:
        return [(2 * each, 2 * each + 1) for each in range(min(8, rows.count // 2))] or [(0, 0)]
    pairs = []
    for text in given:
        first, _, second = text.partition(":")
        if not (first.isdecimal() and second.isdecimal()):
            raise UsageError(f"--pair {text}: two numbers of data, such as 0:7")
        pairs.append((_inside(int(first), rows, "--pair"), _inside(int(second), rows, "--pair")))
    return pairs


def _inside(index: int, rows: Source, option: str) -> int:
    if index >= rows.count:
        raise UsageError(f"{option} {index}: the {rows.split} split of {rows.config.name} has 0 to {rows.count - 1:,}")
    return index


def _check(opened: Opened, picture: bool) -> None:
    """Raise UsageError where there is nothing to be seen: before anything is computed."""
    if picture and opened.model.config.data.support == "tokens":
        raise UsageError("--out: sentences are no pictures; name an .npz")


def _about(opened: Opened, rows: Source, **more: Any) -> dict[str, Any]:
    data = {"name": rows.config.name, "digest": rows.config.digest, "split": rows.split}
    return {"model": opened.called, "data": data, **more}


def _write(out: Path, made: Mapping[str, Any], about: Mapping[str, Any], draw: Callable[[], bytes]) -> None:
    from service.cli.use import files

    if out.suffix == ".png":
        files.write_bytes(out, draw())
    else:
        files.write_arrays(out, made, about)
    output.data(str(out))


def _images(values: Any) -> Any:
    import torch

    from vae_models.metrics.pictures import as_images

    return as_images(torch.as_tensor(values))


def _rows_of_two(x: Any, means: Any) -> bytes:
    from vae_models.metrics.pictures import reconstructions

    return reconstructions(_images(x), _images(means))


def _square(x: Any) -> bytes:
    from vae_models.metrics.pictures import samples

    return samples(_images(x))


def _grid(means: Any, columns: int, rows: list[str], titles: list[str] | None) -> bytes:
    """Draw [rows, columns, *shape]."""
    from vae_models.metrics.pictures import grid

    return grid(_images(means.reshape(-1, *means.shape[2:])), columns, row_labels=rows, column_labels=titles)
