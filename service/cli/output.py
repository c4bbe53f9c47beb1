"""What commands print: data on stdout, everything else on stderr. Imports nothing heavy."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

INTERRUPTED = 130  # as a shell reports a process that Ctrl-C ended

MINUTE = 60  # seconds
HOUR = 3600
DAY = 86400


def data(text: str, *, end: str = "\n") -> None:
    """Write to stdout, at once: the reader may be a pipe that waits."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def as_json(value: Any) -> None:
    """Write records, and lists and mappings of them, to stdout."""
    data(json.dumps(_plain(value), indent=2))


def as_json_line(value: Any) -> None:
    data(json.dumps(_plain(value)))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        record: BaseModel = value
        return record.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write aligned columns to stdout; units belong into the header. Columns of numbers are flush right."""
    for line in aligned(header, rows):
        data(line)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of `table`."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _numeric(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").replace(":", "").lstrip("-+").isdigit()


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Return h:mm:ss, with days in front where there are any."""
    if seconds is None:
        return "-"
    total = max(0, round(seconds))
    days, rest = divmod(total, DAY)
    clock = f"{rest // HOUR}:{rest % HOUR // MINUTE:02d}:{rest % MINUTE:02d}"
    return f"{days} d {clock}" if days else clock


def since(at: float | None) -> str:
    return "-" if not at else duration(time.time() - at)


def moment(at: float | None) -> str:
    """Return the local time of a moment in seconds since 1970."""
    return "-" if not at else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def unforeseen(error: Exception) -> str:
    """Return one line on an unforeseen error; its traceback goes to a log."""
    head = f"vaesvc: unexpected {type(error).__name__}: {str(error)[:300]}"
    try:
        path = _log_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
            file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(sys.argv[1:2])}\n")
            file.write("".join(traceback.format_exception(error)))
    except OSError as failed:
        return f"{head} (no log could be written: {failed.strerror})"
    return f"{head}\nThe details are in {path}"


def _log_file() -> Path:
    home = Path(os.environ.get("VAESVC_HOME") or Path.home() / ".vaesvc")
    usable = home if home.is_dir() else Path(tempfile.gettempdir()) / f"vaesvc-{os.getuid()}"
    return usable / "logs" / "cli.log"
