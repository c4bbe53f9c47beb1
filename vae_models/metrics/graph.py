"""Shortest ways over a graph of latent vectors (VHP 4 and table 3; Chen et al. 2019, "Fast approximate geodesics").

Nodes are samples of z. Each is joined to its nearest neighbours by edges as long as the decoder's curve along the line
between the two (`paths.segment_lengths`); ends of a way are joined to the nodes nearest to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ROWS = 1024  # of distances at a time


@dataclass(frozen=True, kw_only=True)
class Way:
    """A shortest way. points: numbers of the points that it passes, its ends among them; length: of its edges."""

    length: float
    points: tuple[int, ...]


def neighbour_edges(nodes: Float[Tensor, "nodes latent"], neighbours: int) -> Int64[Tensor, "edges 2"]:
    """Return the pairs (i, j), i < j, of which one is among the `neighbours` nearest to the other, each once, sorted.

    Nearest in z, by Euclid's distance. Raise ValueError for fewer nodes than a node needs.
    """
    if not 1 <= neighbours < len(nodes):
        raise ValueError(f"{neighbours} neighbours need more nodes than {len(nodes)}, and there must be one at least")
    near = _nearest(nodes, nodes, neighbours + 1)
    own = torch.arange(len(nodes)).unsqueeze(1)
    is_self = near == own
    is_self[:, -1] |= ~is_self.any(1)  # where so many are in one place that the node itself is not found, drop another
    others = near[~is_self].view(len(nodes), neighbours)
    pairs = torch.stack([own.expand_as(others), others], dim=-1).flatten(0, 1)
    once: Tensor = torch.unique(pairs.sort(1).values, dim=0)
    return once


def end_edges(
    nodes: Float[Tensor, "nodes latent"], ends: Float[Tensor, "ends latent"], neighbours: int
) -> Int64[Tensor, "edges 2"]:
    """Return (node, number of nodes + end) for the `neighbours` nodes nearest to each end."""
    near = _nearest(nodes, ends, min(neighbours, len(nodes)))
    own = torch.arange(len(ends)).unsqueeze(1) + len(nodes)
    return torch.stack([near, own.expand_as(near)], dim=-1).flatten(0, 1)


def direct_edges(
    nodes: Float[Tensor, "nodes latent"],
    starts: Float[Tensor, "pairs latent"],
    ends: Float[Tensor, "pairs latent"],
    neighbours: int,
) -> Int64[Tensor, "edges 2"]:
    """Return (nodes + i, nodes + pairs + i) for each start and end that are nearer to each other than one of them is to
    the last of its `neighbours` nodes: what would be neighbours if ends were nodes."""
    both = torch.cat([starts, ends])
    farthest = nodes[_nearest(nodes, both, min(neighbours, len(nodes)))[:, -1]]
    reach = _distance(both, farthest).view(2, -1).amax(0)
    near = torch.nonzero(_distance(starts, ends) <= reach).flatten().cpu()
    return torch.stack([near + len(nodes), near + len(nodes) + len(starts)], dim=1)


def shortest(
    points: int,
    edges: Int64[Tensor, "edges 2"],
    lengths: Float[Tensor, " edges"],
    starts: list[int],
    ends: list[int],
) -> list[Way | None]:
    """Return the shortest way from each start to its end by Dijkstra's algorithm; None where they are not connected.

    Edges go both ways. Raise ValueError for a length that is negative or not finite.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    values = lengths.double().cpu().numpy()
    if not bool((torch.isfinite(lengths) & (lengths >= 0)).all()):
        raise ValueError(
            "edges have lengths that are negative or not finite: the decoder's Jacobian is not finite there"
        )
    rows, columns = edges.cpu().numpy().T
    graph = csr_array((values, (rows, columns)), shape=(points, points))
    distance, before = dijkstra(graph, directed=False, indices=starts, return_predecessors=True)
    return [_way(float(distance[place, end]), before[place].tolist(), int(end)) for place, end in enumerate(ends)]


def _way(length: float, before: list[int], end: int) -> Way | None:
    if length == float("inf"):
        return None
    points = [end]
    while before[points[-1]] >= 0:  # negative at the start
        points.append(before[points[-1]])
    return Way(length=length, points=tuple(reversed(points)))


def _nearest(nodes: Tensor, of: Tensor, count: int) -> Int64[Tensor, "of count"]:
    """Return the nodes nearest to each of `of`, by exact distances in float64, some rows at a time."""
    near = [
        torch.cdist(rows, nodes.double(), compute_mode="donot_use_mm_for_euclid_dist")
        .topk(count, largest=False)
        .indices
        for rows in torch.split(of.double(), ROWS)
    ]
    return torch.cat(near).cpu()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(a - b, dim=-1)
    return distance
