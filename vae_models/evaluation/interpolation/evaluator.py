"""How long ways between data are, and whether any step of them jumps (VHP 4, figures 5 and 18)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models.evaluation.averages import mean
from vae_models.evaluation.findings import Findings, Table, Value
from vae_models.evaluation.interpolation import drawings
from vae_models.evaluation.interpolation.ways import COPIES, Ways, ways
from vae_models.evaluation.memory import data_within
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.measures import Mode
from vae_models.metrics import paths

if TYPE_CHECKING:
    from vae_models.evaluation.interpolation.specs import InterpolationEvaluation

QUANTITIES: Mapping[str, tuple[str, Mode | None]] = {
    "path_length": ("units of x", None), "path_length_ratio": ("1", "min"), "largest_step": ("units of x", "min"),
    "step_ratio": ("1", "min"),
}  # fmt: skip


@dataclass(frozen=True)
class InterpolationEvaluator:
    """Of each way (linear, slerp, graph), means over pairs, at beta = 1:

    path_length:       integral |J(z(t)) z'(t)| dt, the length of the pictures' way through the data's space
    path_length_ratio: the same over the line's
    largest_step:      max_k |x_(k+1) - x_k| of pictures at equal distances in z
    step_ratio:        the same over the mean step: 1 where pictures change evenly, steps - 1 where all is one jump
    """

    spec: InterpolationEvaluation

    def __call__(self, subject: Subject) -> Findings:
        """Return values, their table, and what the ways look like. Raise Inapplicable where the decoder is constant."""
        every_way = ways(subject, self.spec)
        if not bool((every_way.lengths["linear"] > 0).all()):
            raise Inapplicable("the decoder gives the same for different z, so that no way has a length")
        decoded = {how: self._decoded(subject, corners) for how, corners in every_way.corners.items()}
        values = {
            (quantity, how): value for how in decoded for quantity, value in _values(every_way, how, decoded[how])
        }
        shown = drawings.strips(subject, decoded, self.spec.shown) + drawings.plane(every_way, self.spec.shown)
        notes = tuple(self._notes(every_way))
        return Findings(values=tuple(values.values()), tables=(_table(values),), pictures=shown, notes=notes)

    def _decoded(self, subject: Subject, corners: list[Tensor | None]) -> list[Tensor | None]:
        """Return the pictures along each way, [steps, *data]."""
        reached = [paths.spaced(line, self.spec.steps) for line in corners if line is not None]
        if not reached:
            return [None] * len(corners)
        z, space = torch.cat(reached), subject.space

        def decode(start: int, end: int) -> dict[str, Tensor]:
            return {"x": space.decode(z[start:end].to(subject.device, subject.dtype))}

        x = subject.spread(decode, len(z), size=data_within(subject, COPIES), what="pictures of ways")["x"]
        ready = iter(torch.split(x, self.spec.steps))
        return [None if line is None else next(ready) for line in corners]

    def _notes(self, every_way: Ways) -> Iterator[str]:
        ways, of = (
            every_way.corners["graph"],
            f"the graph of {self.spec.nodes} nodes and {self.spec.neighbours} neighbours",
        )
        apart, direct = (sum(corner(way) for way in ways) for corner in (_is_none, _is_line))
        if apart:
            yield f"{apart} of {len(ways)} pairs are not connected by {of}, and left out of its values: raise either"
        if direct:
            yield (
                f"the graph's way of {direct} of {len(ways)} pairs is the line itself: their ends are nearer to each "
                "other than nodes are"
            )


def _is_none(way: Tensor | None) -> bool:
    return way is None


def _is_line(way: Tensor | None) -> bool:
    return way is not None and len(way) == 2


def _values(every_way: Ways, how: str, decoded: list[Tensor | None]) -> Iterator[tuple[str, Value]]:
    """Yield the mean of each quantity over the pairs that the way connects, by the quantity's name."""
    connected = [pictures for pictures in decoded if pictures is not None]
    if not connected:
        return
    length, line = (every_way.lengths[way][~every_way.lengths[how].isnan()] for way in (how, "linear"))
    steps = paths.jumps(torch.stack(connected).double())
    largest = steps.amax(1)
    each = {"path_length": length} | ({} if how == "linear" else {"path_length_ratio": length / line})
    each["largest_step"] = largest
    if bool((largest > 0).all()):
        each["step_ratio"] = largest / steps.mean(1)
    for quantity, of_pairs in each.items():
        unit, mode = QUANTITIES[quantity]
        note = f"mean over {len(connected)} pairs, {steps.shape[1]} steps each"
        yield quantity, mean(f"{quantity}/{how}", of_pairs, unit=unit, mode=mode, note=note)


def _table(values: Mapping[tuple[str, str], Value]) -> Table:
    columns = [(name, unit, of) for name, (unit, _) in QUANTITIES.items() for of in ("", ", standard error")]
    rows = []
    for how in dict.fromkeys(how for _, how in values):
        row = (values.get((quantity, how)) for quantity in QUANTITIES)
        cells = ((None, None) if value is None else (value.value, value.error) for value in row)
        rows.append((how, *(cell for pair in cells for cell in pair)))
    return Table(
        name="ways",
        columns=("way", *(f"{name}{of} [{unit}]" for name, unit, of in columns)),
        rows=tuple(rows),
        note="means over pairs of data",
    )
