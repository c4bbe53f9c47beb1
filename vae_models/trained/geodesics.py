"""Shortest ways in z by the decoder's metric, over a graph of samples (`metrics.graph`; VHP 4), for a model in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models.evaluation.interpolation.specs import InterpolationEvaluation
from vae_models.metrics import graph, paths
from vae_models.trained.checks import Refused

if TYPE_CHECKING:
    from vae_models.trained.model import Trained

BATCH = 512  # edges that are measured at a time


def ways(model: Trained, starts: Tensor, ends: Tensor, steps: int, *, seed: int, beta: float | None) -> Tensor:
    """Return `steps` points at equal distances along the shortest way of each pair, [pairs, steps, latent].

    The graph is that of the evaluator `interpolation` with its defaults, of samples of the prior by `seed`. Raise
    Refused for a model whose prior was fitted to no latents, and for data between which nothing is measured.
    """
    spec = InterpolationEvaluation()
    for reason in spec.refusals(model.config):
        raise Refused(f"how 'graph' given, and {reason.replace('leave it out', 'choose linear or slerp')}")
    nodes = torch.from_numpy(model.sample(spec.nodes, form="latents", seed=seed, beta=beta))
    points = torch.cat([nodes, starts, ends])
    edges = torch.cat(
        [
            graph.neighbour_edges(nodes, spec.neighbours),
            graph.end_edges(nodes, points[len(nodes) :], spec.neighbours),
            graph.direct_edges(nodes, starts, ends, spec.neighbours),
        ]
    )
    lengths = _lengths(model, points[edges[:, 0]], points[edges[:, 1]], spec.points, beta)
    first = list(range(len(nodes), len(nodes) + len(starts)))
    shortest = graph.shortest(len(points), edges, lengths, first, [start + len(starts) for start in first])
    if None in shortest:
        raise Refused(
            f"how 'graph' given, and pair {shortest.index(None)} is not connected by the graph of {spec.nodes} samples "
            "of the prior: choose another seed, or linear or slerp"
        )
    return torch.stack([paths.spaced(points[list(way.points)], steps) for way in shortest if way is not None])


def _lengths(model: Trained, a: Tensor, b: Tensor, points: int, beta: float | None) -> Tensor:
    """Return the length of each edge by the decoder's metric, float64 [edges]."""
    gates, space = model.gates(beta), model.space
    with torch.no_grad():
        measured = [
            paths.segment_lengths(
                lambda z: space.decode(z, gates), first.to(model.device), last.to(model.device), points
            ).double()
            for first, last in zip(torch.split(a, BATCH), torch.split(b, BATCH), strict=True)
        ]
    return torch.cat(measured).cpu()
