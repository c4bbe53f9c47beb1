"""Points and pictures in a file, in order, until the server has them.

One JSON object per line, appended only:
    {"kind": "metrics", "step": 50, "at": 1700000000000, "values": {"train/loss": 101.5}}
    {"kind": "picture", "step": 50, "at": 1700000000000, "name": "samples", "png": "<base64>"}
A file of several runs says in each line whose it is, "run": 3; without it, run 0's.
Beside it, PATH.sent says how many bytes of each kind's lines are delivered. It may lag behind the truth after a crash,
so who delivers asks the server what it has; a spool that was carried elsewhere without it is complete, too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Kind = Literal["metrics", "picture"]
KINDS: tuple[Kind, ...] = ("metrics", "picture")


@dataclass(frozen=True, kw_only=True)
class Metrics:
    step: int
    at: int  # milliseconds since 1970, UTC
    values: Mapping[str, float]
    run: int = 0
    start: int = 0  # where its line begins in the file, bytes


@dataclass(frozen=True, kw_only=True)
class Picture:
    step: int
    at: int
    name: str
    png: bytes
    run: int = 0
    start: int = 0


Item = Metrics | Picture


def encode(item: Item) -> bytes:
    head: dict[str, Any] = {"kind": "metrics" if isinstance(item, Metrics) else "picture"}
    head |= {"step": item.step, "at": item.at} | ({"run": item.run} if item.run else {})
    if isinstance(item, Metrics):
        # JSON has no NaN and no infinity: they go as texts, which float() reads
        head["values"] = {k: v if math.isfinite(v) else str(v) for k, v in item.values.items()}
    else:
        head |= {"name": item.name, "png": base64.b64encode(item.png).decode()}
    return json.dumps(head, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes, start: int) -> Item | None:
    """Return the entry of a line; None for one that a crash or a full disk cut short."""
    try:
        data = json.loads(line)
        step, at, run = int(data["step"]), int(data["at"]), int(data.get("run", 0))
        if data["kind"] == "metrics":
            values = {str(key): float(value) for key, value in data["values"].items()}
            return Metrics(step=step, at=at, values=values, run=run, start=start)
        png = base64.b64decode(data["png"], validate=True)
        return Picture(step=step, at=at, name=str(data["name"]), png=png, run=run, start=start)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Spool:
    """A file of points and pictures for MLflow. One process writes at a time; `read` and `sent` may run in its other
    threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks = path.with_name(f"{path.name}.sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._end_line()
        self.recovered = self.size()  # what an earlier writer left ends here
        self.sent: dict[Kind, int] = self._load_marks()

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def append(self, lines: bytes) -> None:
        """Append entries. Raises OSError when the disk is full; the file then ends where it did before."""
        size = self.size()
        try:
            view = memoryview(lines)
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise

    def read(self, kind: Kind, start: int, limit: int) -> tuple[list[Item], int]:
        """Return entries of one kind from byte `start`: at most about `limit` points (or one picture), and where to go
        on."""
        entries: list[Item] = []
        count = 0
        prefix = f'{{"kind":"{kind}"'.encode()
        if start >= self.size():  # nothing new; and a device that stands in for a file has no end to read to
            return entries, start
        with self.path.open("rb") as file:
            for begin, line in _lines(file, start):
                start = begin + len(line)
                item = decode(line, begin) if line.startswith(prefix) else None
                if item is None:
                    continue
                entries.append(item)
                count += len(item.values) if isinstance(item, Metrics) else limit
                if count >= limit:
                    break
        return entries, start

    def mark(self, kind: Kind, sent: int) -> None:
        """Note that everything of this kind before byte `sent` is delivered."""
        self.sent[kind] = sent
        partial = self._marks.with_name(f"{self._marks.name}.new-{kind}")
        with contextlib.suppress(OSError):  # a full disk: the mark lags, which costs only a question to the server
            partial.write_text(json.dumps(self.sent))
            partial.replace(self._marks)

    def delivered(self) -> bool:
        return all(not self.read(kind, self.sent[kind], 1)[0] for kind in KINDS)

    def split(self, run: int, path: Path, *, whole: bool) -> bool:
        """Write what is not delivered of one of several runs to a spool of its own; return whether there is anything.

        whole: all that was ever said of it, delivered or not
        """
        left = b""
        with self.path.open("rb") as file:
            for begin, line in _lines(file, 0):
                item = decode(line, begin)
                if item is None or item.run != run:
                    continue
                kind: Kind = "metrics" if isinstance(item, Metrics) else "picture"
                if whole or begin >= self.sent[kind]:
                    left += encode(replace(item, run=0))
        if left:
            path.write_bytes(left)
        return bool(left)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)
        self._marks.unlink(missing_ok=True)

    def _end_line(self) -> None:
        """End a line that was cut short, lest it swallow the next one."""
        size = self.size()
        with self.path.open("rb") as file:
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":
                self._file.write(b"\n")

    def _load_marks(self) -> dict[Kind, int]:
        marks: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            data = json.loads(self._marks.read_text())
            for kind in KINDS:
                value = int(data.get(kind, 0))
                marks[kind] = value if 0 <= value <= self.recovered else 0
        return marks


def _lines(file: Any, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines from byte `start`, each with the byte at which it begins."""
    file.seek(start)
    for line in file:
        if not line.endswith(b"\n"):
            return  # still being written
        yield start, line
        start += len(line)
