"""Every part that can be written in a specification, for people and programs: by seam, with what it declares."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from service import spec_schema
from service.errors import UsageError
from vae_models import parts
from vae_models.parts import Seam

# where seams are declared: each layer has its own
DECLARED = (
    "vae_models.likelihoods.specs",
    "vae_models.priors.specs",
    "vae_models.posteriors.specs",
    "vae_models.backbones.specs",
    "vae_models.topologies.video.frame_specs",
    "vae_models.objectives.specs",
    "vae_models.control.specs",
    "vae_models.optimization.specs",
    "vae_models.data.sources",
    "vae_models.samplers.specs",
    "vae_models.data.noises",
    "vae_models.measures",
    "vae_models.config.train",
    "vae_models.evaluation.features.specs",
    "vae_models.evaluation.specs",
    "vae_models.recipes",
    "tuning.searchers.specs",
    "tuning.pruners.specs",
    "tuning.searches",
    "tuning.reproductions",
    "service.kinds",
)
LISTED_ELSEWHERE: Mapping[str, str] = {
    "recipe": "vaesvc recipes",
    "search": "vaesvc searches",
    "reproduction": "vaesvc reproduce list",
}


def seams(only: str | None = None) -> dict[str, Seam[Any]]:
    """Return the seams by name, or the one that is asked for. Raises UsageError with the nearest name where it is
    none."""
    for module in DECLARED:
        importlib.import_module(module)
    every = dict(parts.seams())
    if only is None:
        return every
    if only in every:
        return {only: every[only]}
    near = spec_schema.nearest(only, list(every))
    hint = f"did you mean {near}? " if near else ""
    raise UsageError(f"there is no seam {only}; {hint}There are: {', '.join(every)}")


def as_data(seam: Seam[Any]) -> dict[str, Any]:
    """Return a seam as JSON has it: its parts with summary, package and what they declare, and what is broken."""
    return {
        "summary": seam.summary,
        "parts": [
            {
                "kind": kind,
                "summary": parts.summary_of(registered.part),
                "package": registered.package,
                "value": registered.value,
                "declares": parts.declared(registered.part),
            }
            for kind, registered in seam.registered().items()
        ],
        "broken": [
            {"entry": each.entry, "value": each.value, "package": each.package, "reason": each.reason}
            for each in seam.broken
        ],
    }


def words(declared: Mapping[str, Any]) -> str:
    """Return what a part declares in one line, without what says nothing: `measure mass, levels 256`."""
    said = {name: value for name, value in declared.items() if value not in (None, False, "", [])}
    return ", ".join(name if value is True else f"{name} {_text(value)}" for name, value in said.items())


def _text(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def page() -> str:
    """Return the documentation of the package's own parts, in Markdown: `docs/parts.md`."""
    return "\n".join(
        [
            "# Parts",
            "",
            "Everything that varies is a part of a seam: what is written as `kind` in a specification. This page is",
            "made from the parts themselves by `vaesvc parts --markdown`. Installed packages add to it: `vaesvc parts`",
            "lists what there is in an environment, and what could not be loaded, with the reason.",
            "",
            *_how(),
            *(line for name, seam in seams().items() for line in _section(name, seam)),
        ]
    )


def _how() -> Sequence[str]:
    return (
        "A package names its parts in its metadata; the name begins with the seam, and the value is a part or a tuple",
        "of parts:",
        "",
        "```toml",
        '[project.entry-points."vaesvc.parts"]',
        '"likelihood.student-t" = "my_package.specs:StudentTConfig"',
        '"recipe" = "my_package.recipes:RECIPES"',
        "```",
        "",
    )


def _section(name: str, seam: Seam[Any]) -> Iterator[str]:
    yield f"## {name}: {seam.summary}" if seam.summary else f"## {name}"
    yield ""
    if name in LISTED_ELSEWHERE:
        yield f"{len(seam.own())} of the package's own; `{LISTED_ELSEWHERE[name]}` lists them."
        yield ""
        return
    for kind, part in seam.own().items():
        yield f"### `{kind}`"
        yield ""
        yield parts.summary_of(part)
        if said := words(parts.declared(part)):
            yield ""
            yield f"Declares: {said}."
        yield ""
        yield from _fields(part)


def _fields(part: Any) -> Iterator[str]:
    if not (isinstance(part, type) and issubclass(part, BaseModel)):
        return
    lines = [line for line in spec_schema.list_fields(part, ours=True) if line.path != "kind"]
    if not lines:
        return
    yield "| field | type | default | what |"
    yield "| --- | --- | --- | --- |"
    for line in lines:
        what = f"({line.when}) {line.description}" if line.when else line.description
        cells = (f"`{line.path}`", line.type, line.default, what)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
