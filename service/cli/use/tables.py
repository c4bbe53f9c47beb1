"""encode and score: of every datum a row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import output
from service.cli.use import options
from service.cli.use.options import Beta, Code, Data, Device, Limit, Model, Seed, Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.cli.use.files import Column
    from service.cli.use.source import Source

NATS = "nats per datum"


def encode(
    model: Model,
    data: Data,
    out: Annotated[Path, options.out("latents.parquet, or .npz.")],
    split: Split = "test",
    limit: Limit = None,
    seed: Seed = 0,
    beta: Beta = None,
    device: Device = "auto",
    code: Code = None,
) -> None:
    """Write q(z|x) of each datum: index, mean_0, ..., std_0, ... and the labels."""
    from service.cli.use import files, models, source, work

    kind = files.suffix(out, ".parquet", ".npz")
    with models.opened(model, device, code) as opened, models.mistakes():
        used = opened.model
        with source.opened(used, data, split=split, limit=limit, seed=seed) as rows:

            def batch(start: int, end: int) -> Mapping[str, Any]:
                encoded = used.encode(rows.x(start, end), beta=beta)
                return {"mean": encoded.mean} | ({} if encoded.std is None else {"std": encoded.std})

            made = work.in_batches(batch, rows.count, what="encoding")
            about = _about(opened.called, rows, beta)
            if kind == ".npz":
                labels = {} if rows.labels is None else {"labels": rows.labels[0].numpy()}
                files.write_arrays(out, {**made, **labels}, about)
            else:
                columns = [
                    files.Column(name=f"{n}_{j}", values=v[:, j]) for n, v in made.items() for j in range(used.latent)
                ]
                files.write_table(out, [_index(rows), *columns, *_labels(rows)], about)
    output.note(f"{rows.count:,} data of {rows.config.name} ({split}), {used.latent} dimensions of z")
    output.data(str(out))


def score(
    model: Model,
    data: Data,
    out: Annotated[Path, options.out("scores.parquet.")],
    samples: Annotated[int, typer.Option("--samples", help="Of each posterior, for the likelihood.")] = 100,
    anomaly: Annotated[
        list[str] | None,
        typer.Option(
            "--anomaly",
            metavar="CLASS",
            help="Data with this label, by its number or name, are the anomalies: AUROC and AUPR of each score; "
            "repeatable.",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    limit: Limit = None,
    seed: Seed = 0,
    beta: Beta = None,
    device: Device = "auto",
    code: Code = None,
) -> None:
    """Write how unlikely each datum is, in nats: -ELBO, and -log p(x) by samples; prints the means.

    Larger is stranger: with --anomaly it is measured how well that tells a class from the others.
    """
    from service.cli.use import anomalies, files, models, source, work

    files.suffix(out, ".parquet")
    with models.opened(model, device, code) as opened, models.mistakes():
        used = opened.model
        with source.opened(used, data, split=split, limit=limit, seed=seed) as rows:
            strange = None if not anomaly else anomalies.of(rows, anomaly)

            def batch(start: int, end: int) -> Mapping[str, Any]:
                choices = {"samples": samples, "seed": seed, "beta": beta, "lengths": rows.lengths(start, end)}
                return used.score(rows.x(start, end), first=start, **choices)

            measured = work.in_batches(batch, rows.count, what="scoring")
            scores = _scores(measured, samples)
            columns = [files.Column(name=name, values=values, unit=NATS) for name, values in scores.items()]
            about = _about(opened.called, rows, beta) | {"samples": samples}
            if strange is not None:
                columns.append(files.Column(name="anomaly", values=strange.which))
                about["anomalies"] = strange.names
            files.write_table(out, [_index(rows), *columns, *_labels(rows)], about)
    _tell(scores, used.config.model.levels())
    if strange is not None:
        strange.tell(scores)
    output.data(str(out))


def _scores(measured: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """Return the scores, of which larger is stranger, by the names of their columns."""
    named = {"negative_elbo": "elbo", f"nll_{samples}": "nll", "rate": "rate", "distortion": "distortion"}
    return {name: -measured[key] if key == "elbo" else measured[key] for name, key in named.items() if key in measured}


def _tell(scores: Mapping[str, Any], levels: int | None) -> None:
    kind = "of a density" if levels is None else "of a mass"
    rows = [
        (name, f"{values.mean():,.4f}", f"{values.std(ddof=1) / len(values) ** 0.5:,.4f}" if len(values) > 1 else "-")
        for name, values in scores.items()
    ]
    output.table(("SCORE", f"MEAN [{NATS}, {kind}]", "STANDARD ERROR"), rows)


def _index(rows: Source) -> Column:
    import numpy as np

    from service.cli.use.files import Column

    return Column(name="index", values=np.arange(rows.count))


def _labels(rows: Source) -> list[Column]:
    """Return the labels' columns: `label`, or `label_NAME` for each of several."""
    from service.cli.use.files import Column

    if rows.labels is None:
        return []
    values, spec = rows.labels
    unit = spec.unit or "1"
    if values.ndim == 1:
        return [Column(name="label", values=values.numpy(), unit=unit)]
    names = spec.name if isinstance(spec.name, tuple) else tuple(f"{j}" for j in range(values.shape[1]))
    return [Column(name=f"label_{name}", values=values[:, j].numpy(), unit=unit) for j, name in enumerate(names)]


def _about(called: str, rows: Source, beta: float | None) -> dict[str, Any]:
    """Return what the rows are of, for who opens the file later."""
    labels = None if rows.labels is None else rows.labels[1].model_dump(mode="json")
    data = {"name": rows.config.name, "digest": rows.config.digest, "split": rows.split}
    return {"model": called, "data": data, "seed": rows.seed, "beta": beta, "labels": labels}
