"""What was done, in sentences for people and in numbers for programs: `made` and `source` of data.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_models.data.ingest.names import shown

_LISTED = 500  # names of what was left out, in data.json; beyond it they are counted
_WHY = 200  # characters


@dataclass(kw_only=True)
class Report:
    """The report on a set, gathered while it is made.

    made:  what was done with the values
    notes: the same and more in sentences, which `data add` and `data show` print
    """

    kind: str
    name: str
    made: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Add a remark."""
        self.notes.append(sentence)

    def left_out(self, broken: Sequence[tuple[str, str]]) -> None:
        """Record what was left out because it is broken, by name and reason."""
        if broken:
            self.note(f"{len(broken):,} broken files left out, the first: {shown(broken[0][0])} ({broken[0][1]})")
        self.source["left_out"] = [[shown(name), why[:_WHY]] for name, why in broken[:_LISTED]]
        self.source["left_out_count"] = len(broken)

    def ignored(self, counts: Mapping[str, int]) -> None:
        """Record what was passed over, by reason."""
        counts = {why: count for why, count in sorted(counts.items()) if count}
        self.source["ignored"] = dict(counts)
        if counts:
            self.note("passed over: " + ", ".join(f"{count:,} {why}" for why, count in counts.items()))

    def as_made(self) -> dict[str, Any]:
        """Return `made` of data.json."""
        return {"kind": self.kind, **self.made, "notes": list(self.notes)}

    def as_source(self) -> dict[str, Any]:
        """Return `source` of data.json."""
        return {"name": self.name, "kind": self.kind, **self.source}


def begin(kind: str, path: Path) -> Report:
    """Return the report on a source. Its name is the last part of the path: the folders above are private."""
    return Report(kind=kind, name=shown(path.resolve().name))


def counted(counts: Counter[str]) -> dict[str, int]:
    """Return counts as plain data in the order of their names."""
    return {name: int(counts[name]) for name in sorted(counts)}
