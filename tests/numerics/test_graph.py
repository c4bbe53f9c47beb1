"""Shortest ways over a latent graph: against a search through all ways, and surfaces with known geodesics."""

from __future__ import annotations

import heapq
import math

import pytest
import torch
from torch import Tensor

from tests.numerics.test_paths import circle, normal
from vae_models.metrics import graph, paths


def uniform(n: int, low: tuple[float, ...], high: tuple[float, ...], seed: int = 0) -> Tensor:
    share = torch.rand(n, len(low), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(low) + share * (torch.tensor(high) - torch.tensor(low))


def ways(decode: paths.Decode, nodes: Tensor, starts: Tensor, ends: Tensor, neighbours: int) -> list[graph.Way | None]:
    points = torch.cat([nodes, starts, ends])
    both = torch.cat([starts, ends])
    edges = torch.cat([graph.neighbour_edges(nodes, neighbours), graph.end_edges(nodes, both, neighbours)])
    lengths = paths.segment_lengths(decode, points[edges[:, 0]], points[edges[:, 1]])
    first = [len(nodes) + i for i in range(len(starts))]
    return graph.shortest(len(points), edges, lengths, first, [start + len(starts) for start in first])


def by_hand(points: int, edges: Tensor, lengths: Tensor, start: int, end: int) -> float:
    """Dijkstra, with a heap."""
    around: list[list[tuple[int, float]]] = [[] for _ in range(points)]
    for (i, j), length in zip(edges.tolist(), lengths.tolist(), strict=True):
        around[i].append((j, length))
        around[j].append((i, length))
    best, heap = {start: 0.0}, [(0.0, start)]
    while heap:
        distance, point = heapq.heappop(heap)
        if point == end:
            return distance
        for other, length in around[point]:
            if distance + length < best.get(other, math.inf):
                best[other] = distance + length
                heapq.heappush(heap, (distance + length, other))
    return math.inf


def test_neighbours_are_the_nearest_of_all() -> None:
    nodes = normal(40, 3)
    expected = set()
    for i in range(40):
        near = sorted((float((nodes[i] - nodes[j]).norm()), j) for j in range(40) if j != i)[:4]
        expected |= {(min(i, j), max(i, j)) for _, j in near}
    assert [tuple(pair) for pair in graph.neighbour_edges(nodes, 4).tolist()] == sorted(expected)


def test_nodes_in_one_place_are_each_others_neighbours() -> None:
    edges = graph.neighbour_edges(torch.zeros(6, 2), 2)
    assert bool((edges[:, 0] < edges[:, 1]).all())
    assert set(edges.flatten().tolist()) == set(range(6))


def test_shortest_ways_are_dijkstras_and_their_edges_add_up() -> None:
    nodes = normal(60, 3)
    edges = graph.neighbour_edges(nodes, 3)
    lengths = torch.rand(len(edges), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    starts, ends = list(range(20)), list(range(40, 60))
    known = {tuple(pair): float(length) for pair, length in zip(edges.tolist(), lengths, strict=True)}
    for start, end, way in zip(starts, ends, graph.shortest(60, edges, lengths, starts, ends), strict=True):
        expected = by_hand(60, edges, lengths, start, end)
        if way is None:
            assert expected == math.inf
            continue
        assert way.length == pytest.approx(expected, rel=1e-12)
        assert (way.points[0], way.points[-1]) == (start, end)
        steps = [known[min(pair), max(pair)] for pair in zip(way.points, way.points[1:], strict=False)]
        assert math.fsum(steps) == pytest.approx(way.length, rel=1e-12)


def test_a_linear_decoders_ways_are_no_shorter_than_lines_and_come_to_them() -> None:
    weight = normal(5, 2)
    starts, ends = uniform(8, (0.1, 0.1), (0.3, 0.9), seed=1), uniform(8, (0.7, 0.1), (0.9, 0.9), seed=2)
    straight = ((ends - starts) @ weight.T).norm(dim=1)
    excess = []
    for count in (50, 400, 3000):
        nodes = uniform(count, (0.0, 0.0), (1.0, 1.0))
        found = ways(lambda z: z @ weight.T, nodes, starts, ends, round(4 * math.log(count)))
        lengths = torch.tensor([way.length for way in found if way is not None]).double()
        assert len(lengths) == 8
        assert bool((lengths >= straight * (1 - 1e-9)).all())
        excess.append(float((lengths / straight).mean() - 1))
    assert excess == sorted(excess, reverse=True)
    assert excess[-1] < 0.02


def test_ways_on_a_rolled_plane_are_its_geodesics() -> None:
    """Around half a cylinder: pi by the way, 2 through the air."""
    nodes = uniform(3000, (0.0, 0.0), (1.0, math.pi))
    start, end = torch.tensor([[0.5, 0.0]]).double(), torch.tensor([[0.5, math.pi]]).double()
    (way,) = ways(circle, nodes, start, end, 30)
    assert way is not None
    assert math.pi <= way.length < 1.02 * math.pi


def test_a_way_goes_round_what_is_steep() -> None:
    """x = (z, 20 exp(-8 |z|^2)): a hill in the middle of the plane, over which the line goes."""

    def hill(z: Tensor) -> Tensor:
        return torch.cat([z, 20 * torch.exp(-8 * z.square().sum(1, keepdim=True))], dim=1)

    nodes = uniform(2000, (-2.0, -2.0), (2.0, 2.0))
    start, end = torch.tensor([[-1.5, 0.0]]).double(), torch.tensor([[1.5, 0.0]]).double()
    (way,) = ways(hill, nodes, start, end, 15)
    line = float(paths.segment_lengths(hill, start, end, points=64))
    assert way is not None
    assert line > 40
    assert way.length < 8
    passed = torch.cat([nodes, start, end])[list(way.points)]
    assert float(passed.norm(dim=1).min()) > 0.6


def test_ends_that_are_near_each_other_are_joined() -> None:
    """On a line of nodes at 0, 1, ..., 9, with two neighbours: ends at 0.1 and 0.9 are, ends at 0.1 and 3 are not."""
    nodes = torch.arange(10.0).unsqueeze(1)
    starts, ends = torch.tensor([[0.1], [0.1]]), torch.tensor([[0.9], [3.0]])
    assert graph.direct_edges(nodes, starts, ends, 2).tolist() == [[10, 12]]


def test_ends_that_nothing_connects_have_no_way() -> None:
    edges = torch.tensor([[0, 1], [2, 3]])
    found = graph.shortest(4, edges, torch.ones(2), [0, 0], [1, 3])
    assert found == [graph.Way(length=1.0, points=(0, 1)), None]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="5 neighbours need more nodes than 5"):
        graph.neighbour_edges(normal(5, 2), 5)
    with pytest.raises(ValueError, match="negative or not finite"):
        graph.shortest(2, torch.tensor([[0, 1]]), torch.tensor([math.nan]), [0], [1])
