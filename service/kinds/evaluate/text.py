"""How far an evaluation is and what it found out, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.cli.output import aligned
from service.kinds.evaluate import tables
from service.kinds.evaluate.pace import pieces


def progress(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label with its unit, value) of everything that a progress report holds."""
    return pieces(progress)


def outcome(result: Mapping[str, Any]) -> list[str]:
    """Return the values as a table."""
    findings = {"": {"values": result.get("values", ()), "tables": (), "notes": ()}}
    return [
        line
        for table in tables.of(str(result.get("split")), findings)
        for line in (table.title, *aligned(table.header, table.rows))
    ]
