"""What was found out as tables of text: each value with its error, its unit, and from how many data it was computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from service.wire import Table

HEADER = ("NAME", "VALUE", "ERROR", "UNIT", "BETTER", "N", "NOTE")
ARROWS = {"max": "higher", "min": "lower"}


def of(split: str, findings: Mapping[str, Mapping[str, Any]]) -> tuple[Table, ...]:
    """Return the values as one table, then each evaluator's own tables. findings: `Findings.plain`, by key."""
    rows = [_row(value) for each in findings.values() for value in each["values"]]
    tables = [Table(title=f"on the {split} split", header=HEADER, rows=tuple(rows))] if rows else []
    tables += [_table(table) for each in findings.values() for table in each["tables"]]
    return tuple(tables)


def notes(findings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what a reader has to know, such as what was left out and why."""
    return [note for each in findings.values() for note in each["notes"]]


def _row(value: Mapping[str, Any]) -> tuple[str, ...]:
    shown, error = with_error(value["value"], value["error"])
    mode = ARROWS.get(value["mode"] or "", "")
    return (value["name"], shown, error or "-", _unit(value), mode, f"{value['count']:,}", value["note"])


def with_error(value: float, error: float | None) -> tuple[str, str | None]:
    """Return value and error as text: the error has two significant digits, the value as many decimals."""
    if not error:
        return number(value), None if error is None else "0"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return (f"{value:,.{decimals}f}", f"{error:,.{decimals}f}") if decimals <= 8 else (number(value), f"{error:.2g}")


def number(value: float) -> str:
    """Return six significant digits, without an exponent where there need be none; a whole number as one."""
    if value == round(value) and abs(value) < 1e9:
        return f"{value:,.0f}"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.6g}"
    return f"{value:,.{max(0, 5 - math.floor(math.log10(abs(value))))}f}"


def _unit(value: Mapping[str, Any]) -> str:
    """Return the unit; of a log-likelihood with its measure: density and mass are never compared."""
    if value["measure"] is None:
        return str(value["unit"])
    levels = "" if value["levels"] in (None, 2) else f" of {value['levels']} levels"
    return f"{value['unit']}, {value['measure']}{levels}"


def _table(table: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(cell(each) for each in row) for row in table["rows"])
    title = f"{table['name']}: {table['note']}" if table["note"] else str(table["name"])
    return Table(title=title, header=tuple(table["columns"]), rows=rows)


def cell(value: Any) -> str:
    """Return a cell of a table as text."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else number(value)
