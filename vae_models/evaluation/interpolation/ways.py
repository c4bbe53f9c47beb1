"""The three ways between the latents of pairs of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models.evaluation.averages import finite
from vae_models.evaluation.drawing import latents
from vae_models.evaluation.memory import data_within
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics import graph, paths

if TYPE_CHECKING:
    from vae_models.evaluation.interpolation.specs import InterpolationEvaluation

COPIES = 16  # of the decoder's output that its layers and their derivatives hold at a time
CORNERS = 9  # of a line or a great circle, as a polyline: an eighth of it is measured at a time


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Polylines in z, for each pair; None where the graph does not connect its ends.

    nodes: the graph's, [nodes, latent]; lengths: of the decoder's curve along each, [pairs] by way, NaN for None
    """

    nodes: Tensor
    corners: Mapping[str, list[Tensor | None]]
    lengths: Mapping[str, Tensor]


def pairs(subject: Subject, count: int) -> tuple[Tensor, Tensor]:
    """Return the posterior means of both data of each pair, [pairs, latent]; no datum is in two pairs.

    Raise Inapplicable for a split of one datum.
    """
    total = subject.count()
    if total < 2:
        raise Inapplicable("a way needs two data, and one is evaluated: raise limit")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(subject.plan.seed))
    half = min(count, total // 2)
    means = subject.posteriors().mean
    return means[order[:half]], means[order[half : 2 * half]]


def ways(subject: Subject, spec: InterpolationEvaluation) -> Ways:
    """Return lines, great circles and shortest ways over the graph, with their lengths."""
    starts, ends = pairs(subject, spec.pairs)
    nodes = latents(subject, spec.sampler, spec.nodes, stream="interpolation")
    corners: dict[str, list[Tensor | None]] = {}
    lengths: dict[str, Tensor] = {}
    for how in ("linear", "slerp"):
        lines = paths.path(starts, ends, CORNERS, how)
        pieces = _measured(subject, lines[:, :-1].flatten(0, 1), lines[:, 1:].flatten(0, 1), spec.points)
        corners[how], lengths[how] = list(lines), pieces.view(len(lines), -1).sum(1)
    points, shortest = _shortest(subject, spec, nodes, starts, ends)
    corners["graph"] = [None if way is None else points[list(way.points)] for way in shortest]
    lengths["graph"] = torch.tensor([float("nan") if way is None else way.length for way in shortest]).double()
    return Ways(nodes=nodes, corners=corners, lengths=lengths)


def _shortest(
    subject: Subject, spec: InterpolationEvaluation, nodes: Tensor, starts: Tensor, ends: Tensor
) -> tuple[Tensor, list[graph.Way | None]]:
    """Return the graph's points, the pairs' ends behind its nodes, and the shortest way of each pair."""
    points = torch.cat([nodes, starts, ends])
    joined = graph.end_edges(nodes, points[len(nodes) :], spec.neighbours)
    direct = graph.direct_edges(nodes, starts, ends, spec.neighbours)
    edges = torch.cat([graph.neighbour_edges(nodes, spec.neighbours), joined, direct])
    lengths = _measured(subject, points[edges[:, 0]], points[edges[:, 1]], spec.points)
    first = list(range(len(nodes), len(nodes) + len(starts)))
    return points, graph.shortest(len(points), edges, lengths, first, [start + len(starts) for start in first])


def _measured(subject: Subject, a: Tensor, b: Tensor, points: int) -> Tensor:
    """Return the length of each edge by the decoder's metric, float64 [edges], on the CPU."""
    space = subject.space

    def lengths(start: int, end: int) -> dict[str, Tensor]:
        first, last = (side[start:end].to(subject.device, subject.dtype) for side in (a, b))
        return {"lengths": paths.segment_lengths(space.decode, first, last, points).double()}

    made = subject.spread(lengths, len(a), size=data_within(subject, COPIES), what="lengths of ways")["lengths"]
    finite("the length of an edge by the decoder's Jacobian", made)
    return made
