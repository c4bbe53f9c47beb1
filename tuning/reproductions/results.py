"""What came out of a reproduction: its numbers beside the paper's, its verdicts, its pictures; as JSON and Markdown."""

from __future__ import annotations

import importlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuning.reproductions.claims import Cell, Verdict
from tuning.reproductions.entry import PAPERS, Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Trained
from tuning.space import Assignment
from vae_models.evaluation.findings import Picture

RESULT, PAGE = "result.json", "result.md"


@dataclass(frozen=True, kw_only=True)
class Results:
    """cells: the numbers of each cell, one for each seed; missing: why a cell has none; trained: by run, for each seed;
    chosen: what studies chose."""

    entry: Reproduction
    scale: Scale
    setup: Setup
    seeds: int
    cells: Mapping[Cell, tuple[float, ...]]
    missing: Mapping[Cell, str]
    verdicts: tuple[Verdict, ...]
    trained: Sequence[Mapping[str, Trained]]
    chosen: Mapping[str, Assignment]

    @property
    def measured(self) -> bool:
        """Return whether a claim could be judged."""
        return any(verdict.outcome != "not measured" for verdict in self.verdicts)

    @property
    def command(self) -> str:
        """Return the command that gives this result."""
        paper, _, table = self.entry.name.partition("/")
        seeds = "" if self.seeds == self.setup.seeds else f" --seeds {self.seeds}"
        return f"vaesvc reproduce {paper} {table} --scale {self.scale}{seeds}"

    def write(self, folder: Path) -> None:
        """Write result.json, result.md and the pictures; the page last."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = [*self._drawn(), *self._shown()]
        for picture in pictures:
            picture.write(folder)
        (folder / RESULT).write_text(json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n")
        (folder / PAGE).write_text(self.page(pictures))

    def _drawn(self) -> Iterator[Picture]:
        """Yield the drawings, where anything was trained."""
        for drawing in self.setup.drawings if any(self.trained) else ():
            yield _draw(drawing)(self)

    def _shown(self) -> Iterator[Picture]:
        """Yield evaluators' pictures of each run of the first seed, named after the run."""
        for run, of in self.trained[0].items() if self.trained else ():
            for name in self.setup.shown:
                if name in of.pictures:
                    caption = f"{self.setup.rows.get(run, run)}: {of.pictures[name].caption}"
                    yield replace(of.pictures[name], name=f"{run}-{name.replace('/', '-')}", caption=caption)

    def plain(self) -> dict[str, Any]:
        """Return everything but runs and pictures as JSON has it."""
        return {
            "name": self.entry.name,
            "scale": self.scale,
            "command": self.command,
            "seeds": self.seeds,
            "cells": [
                {
                    "row": row,
                    "column": column,
                    "paper": self.entry.paper.get((row, column)),
                    "ours": list(self.cells.get((row, column), ())),
                    "missing": self.missing.get((row, column)),
                }
                for row, column in dict.fromkeys([*self.setup.cells, *self._papers_cells()])
            ],
            "chosen": {name: dict(assignment) for name, assignment in self.chosen.items()},
            "claims": [
                {
                    "claim": verdict.claim.text,
                    "place": verdict.claim.place,
                    "verdict": verdict.outcome,
                    "margins": list(verdict.margins),
                    "reason": verdict.reason,
                }
                for verdict in self.verdicts
            ],
            "differs": list(self.setup.differs),
            "seconds": sum(run.seconds for of_seed in self.trained for run in of_seed.values()),
        }

    def _papers_cells(self) -> list[Cell]:
        return [cell for cell in self.entry.paper if cell[0] in self.setup.rows]

    def page(self, pictures: Sequence[Picture] = ()) -> str:
        """Return the result for people, in Markdown."""
        paper, _, table = self.entry.name.partition("/")
        lines = [
            f"# {PAPERS.get(paper, paper)}: {table.replace('-', ' ', 1)}",
            "",
            self.entry.summary,
            "",
            f"`{self.command}`: {self.seeds} {'seed' if self.seeds == 1 else 'seeds'}, ours is the median and, in "
            "brackets, the range over them.",
            "",
            *self.claims(),
            "",
            *self.table(),
            "",
            *(f"![{picture.caption or picture.name}]({picture.name}.png)\n" for picture in pictures),
            *self.notes(),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def claims(self) -> list[str]:
        """Return the verdicts as a table of Markdown."""
        lines = ["| claim | where | verdict | margin, median [range] |", "| --- | --- | --- | --- |"]
        for verdict in self.verdicts:
            margin = _spread(verdict.margins, 4) if verdict.margins else verdict.reason.partition("\n")[0]
            outcome = f"**{verdict.outcome}**"
            cells = (_cell(verdict.claim.text), _cell(verdict.claim.place), outcome, _cell(margin))
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def table(self) -> list[str]:
        """Return paper beside ours as a table of Markdown; a column without any number is left out."""
        columns = [column for column in self.entry.columns if self._has(column)]
        header, rule = [""], ["---"]
        for column in columns:
            printed = self._printed(column)
            heading = _cell(column.heading)
            header += [f"{heading}: paper", "ours"] if printed else [heading]
            rule += ["---", "---"] if printed else ["---"]
        rows = [[_cell(heading), *self._row(row, columns)] for row, heading in self.setup.rows.items()]
        return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]

    def _has(self, column: Column) -> bool:
        return any((row, column.name) in {*self.setup.cells, *self.entry.paper} for row in self.setup.rows)

    def _printed(self, column: Column) -> bool:
        """Return whether the paper has numbers of the column in these rows."""
        return any((row, column.name) in self.entry.paper for row in self.setup.rows)

    def _row(self, row: str, columns: Sequence[Column]) -> list[str]:
        cells = []
        for column in columns:
            at, paper = (row, column.name), self.entry.paper.get((row, column.name))
            if self._printed(column):
                cells.append("" if paper is None else number(paper, column.digits))
            ours = self.cells.get(at)
            cells.append(_spread(ours, column.digits) if ours else "not measured" if at in self.missing else "")
        return cells

    def notes(self) -> list[str]:
        """Return what differs from the paper, what was chosen, and what is missing with the reason."""
        lines = [*self.entry.notes]
        if self.setup.differs:
            lines.append(f"Not as in the paper: {'; '.join(self.setup.differs)}.")
        lines += [
            f"Chosen for {name}: {', '.join(f'{path} {value}' for path, value in chosen.items())}."
            for name, chosen in self.chosen.items()
        ]
        lines += [f"Not measured: {reason}" for reason in dict.fromkeys(self.missing.values())]
        return [line for each in lines for line in (each, "")]


def number(value: float, digits: int = 4) -> str:
    """Return a number with as many significant digits; whole ones whole."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text and abs(value) < 1e9 else text


def _spread(values: Sequence[float], digits: int) -> str:
    """Return the median, and the range where there are several values that differ."""
    middle = number(statistics.median(values), digits)
    if len(set(values)) == 1:
        return middle
    return f"{middle} [{number(min(values), digits)}, {number(max(values), digits)}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _draw(name: str) -> Callable[[Results], Picture]:
    module, _, function = name.partition(":")
    draw: Callable[[Results], Picture] = getattr(importlib.import_module(module), function)
    return draw
