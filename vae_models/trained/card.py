"""A model card: what a model is, its data, what was measured, how to load it. In Markdown, from facts alone.

Nothing in it is written by hand: the same model, findings and names give the same text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vae_models import measures
from vae_models.data.config import DataConfig
from vae_models.data.published import Published
from vae_models.data.sources import SOURCES
from vae_models.protocols import LatentSpace
from vae_models.trained.model import Trained

OWN_TERMS = "of your own data: not known here"
NO_TERMS = "not known"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What an evaluation found out. findings: `Findings.plain`, by the evaluator's key."""

    split: str
    findings: Mapping[str, Mapping[str, Any]]


def card(
    model: Trained, title: str, *, load: str, evaluated: Sequence[Evaluated] = (), more: Mapping[str, str] | None = None
) -> str:
    """Return the card. load: what to load it by, a name or a folder, in Python and on the command line; more: what else
    is known of it, such as its version.
    """
    parts = [
        [f"# {title}", "", _sentence(model)],
        ["## Model", "", *_table(("", ""), [*(more or {}).items(), *_model(model)])],
        ["## Data", "", *_table(("", ""), _data(model.config.data))],
        ["## Training", "", *_table(("", ""), _training(model))],
        ["## Numbers", "", *_numbers(model, evaluated)],
        ["## Use", "", *_use(model, load)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _sentence(model: Trained) -> str:
    config, shape = model.config, " x ".join(map(str, model.shape))
    dimensions = config.model.dimensions()
    return (
        f"A {config.model.kind} with {dimensions} latent dimensions of {config.data.name} ({shape}), trained for "
        f"{'an unknown number of' if model.origin is None else f'{model.origin.step:,}'} steps."
    )


def _model(model: Trained) -> Iterator[tuple[str, str]]:
    config = model.config
    for name, part in config.model:
        kind = getattr(part, "kind", None)
        if kind is not None:
            yield name, _described(part)
    yield "latents", ", ".join(f"{name} {list(shape)}" for name, shape in config.model.latents().items())
    yield "parameters", f"{sum(parameter.numel() for parameter in model.model.parameters()):,}"
    span = config.model.beta_range()
    if span is not None:
        yield "beta", f"any from {span[0]:g} to {span[1]:g}; 1 unless another is asked for"
    levels = config.model.levels()
    yield "log-likelihoods", "of a density" if levels is None else f"of a mass of {levels} values"
    if not config.model.bound:
        yield "bound", "none: q(z|x) has no density, so there is no ELBO and no likelihood"


def _described(part: Any) -> str:
    """Return a part's kind and what it was given that is not its default."""
    fields = type(part).model_fields
    changed = {name: value for name, value in part if name != "kind" and value != fields[name].default}
    given = ", ".join(f"{name} {_short(value)}" for name, value in changed.items())
    return f"{part.kind}" + (f": {given}" if given else "")


def _short(value: Any) -> str:
    text = str(list(value)) if isinstance(value, tuple) else str(getattr(value, "kind", value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _data(data: DataConfig) -> Iterator[tuple[str, str]]:
    facts, source = data.facts, SOURCES.find(data.name)
    yield "set", data.name
    if data.digest is not None:
        yield "SHA-256", data.digest
    axes = zip(facts.axes, facts.shape, strict=True)
    yield "a datum", " x ".join(f"{axis} {size:,}" for axis, size in axes)
    yield "values", data.support + (f", {facts.vocabulary:,} tokens" if facts.vocabulary else "")
    yield "train, val, test", ", ".join(f"{size:,}" for size in facts.sizes)
    if facts.labels is not None:
        yield "labels", facts.labels.name if isinstance(facts.labels.name, str) else ", ".join(facts.labels.name)
    if data.binarize != "none":
        yield "binarized", data.binarize
    if data.noise.kind != "none":
        yield "noise", _described(data.noise)
    yield "licence", OWN_TERMS if data.digest is not None else getattr(source, "terms", "") or NO_TERMS
    if isinstance(source, Published) and (homes := source.origin()["homes"]):
        yield "published at", ", ".join(homes)


def _training(model: Trained) -> Iterator[tuple[str, str]]:
    config = model.config
    for name in ("objective", "beta", "optimizer", "schedule"):
        yield name, _described(getattr(config, name))
    yield "batch", f"{config.batch_size:,} data"
    yield "length", f"{config.epochs:g} epochs" if config.epochs is not None else f"{config.steps:,} steps"
    if model.origin is not None:
        yield "these weights", f"of step {model.origin.step:,}"
    yield "seed", str(config.seed)
    yield "numbers", config.dtype


def _numbers(model: Trained, evaluated: Sequence[Evaluated]) -> list[str]:
    """Return what evaluations found out, with errors; and what training measured on these weights, without."""
    rows = [row for each in evaluated for row in _found(each)]
    lines = _table(("measure", "value", "standard error", "unit", "n"), rows) if rows else []
    measured = sorted((model.origin.metrics if model.origin is not None else {}).items())
    if measured:
        lines += [""] if lines else []
        lines += ["Measured while it was trained, on exactly these weights:", ""]
        lines += _table(("measure", "value", "unit"), [(name, f"{v:,.6g}", _unit(name)) for name, v in measured])
    return lines or ["None: it was not evaluated."]


def _found(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    for each in evaluated.findings.values():
        for value in each["values"]:
            name, error = f"{evaluated.split}/{value['name']}", value["error"]
            measure = f" of a {value['measure']}" if value.get("measure") else ""
            shown, spread = _with_error(value["value"], error)
            yield name, shown, spread, f"{value['unit']}{measure}", f"{value['count']:,}"


def _with_error(value: float, error: float | None) -> tuple[str, str]:
    """Return both as text: the error with two significant digits, the value with as many decimals."""
    if not error:
        return f"{value:,.6g}", "-" if error is None else "0"
    decimals = min(8, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:,.{decimals}f}", f"{error:,.{decimals}f}"


def _unit(metric: str) -> str:
    known = measures.quantity(metric)
    return "-" if known is None else known.unit


def _use(model: Trained, load: str) -> list[str]:
    data = model.config.data.name
    is_folder = load.startswith(("/", "."))
    loader = "Trained.load" if is_folder else "vaesvc.load"
    imported = "from vae_models.trained import Trained" if is_folder else "import vaesvc"
    shape = ", ".join(str(size) for size in (1, *model.shape))
    encode = [] if not isinstance(model.model, LatentSpace) else ["mean, std = model.encode(x)"]
    sampled, sample = "samples = model.sample(16, seed=1)", [f"vaesvc sample {load} --count 64 --out samples.png"]
    if model.config.model.continues:
        sampled, sample = "future = model.continued(x, seed=1)", []
    return [
        "```python",
        "import numpy",
        imported,
        "",
        f'model = {loader}("{load}")',
        f"x = numpy.zeros(({shape}))  # your data here",
        sampled,
        *encode,
        "```",
        "",
        "```bash",
        *sample,
        f"vaesvc score {load} {data} --out scores.parquet",
        "```",
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (list(header), ["---"] * len(header), *cells)]
