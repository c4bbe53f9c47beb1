"""Samples beside the training data nearest to them: what is a copy looks like one."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_models.evaluation.averages import mean
from vae_models.evaluation.drawing import drawn, name_of
from vae_models.evaluation.findings import Findings, Picture, Value
from vae_models.evaluation.memory import data_within
from vae_models.evaluation.pictures import shown
from vae_models.evaluation.pictures.reconstructions import means
from vae_models.evaluation.subject import Rows, Subject

NAME = "nearest_train_distance"
COPIES = 4  # of a datum, in float64


def nearest(subject: Subject, *, compared: int, rows: int, neighbours: int) -> Findings:
    """Return, for each sampler of the plan, `rows` samples E[x|z] beside their nearest training data by |x - x'|, and
    the mean distance of `compared` samples to their nearest; for comparison that of reconstructions of the split."""
    findings = Findings()
    for sampler in subject.plan.samplers:
        name, samples = name_of(sampler), drawn(subject, sampler, compared)
        distances, places = _nearest(subject, samples, neighbours)
        picture = _picture(subject, name, samples[:rows], distances[:rows], places[:rows])
        findings += Findings(values=(_value(subject, name, distances),), pictures=(picture,))
    _, held_out = means(subject, compared, None)
    return findings + Findings(values=(_value(subject, "reconstructions", _nearest(subject, held_out, 1)[0]),))


def _nearest(subject: Subject, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distances and indices of the training data nearest to each point, nearest first: [points, count] each.

    In blocks over the training split; by inner products in float64, where a copy's distance is 0 to 1e-8 of its norm.
    """
    flat = points.to(subject.device).double().flatten(1)
    squares = flat.square().sum(1)

    def distances(rows: Rows) -> dict[str, Tensor]:
        x = rows.x.double().flatten(1)
        squared = x.square().sum(1, keepdim=True) + squares - 2 * x @ flat.T
        return {"distance": squared.clamp(min=0).sqrt().float()}

    size = data_within(subject, COPIES)
    distance = subject.map(distances, what="nearest training data", split="train", batch_size=size)["distance"].T
    least = distance.topk(min(count, distance.shape[1]), largest=False)
    return least.values, least.indices


def _picture(subject: Subject, name: str, samples: Tensor, distances: Tensor, places: Tensor) -> Picture:
    beside = torch.split(subject.data(places.flatten(), "train"), places.shape[1])
    rows = [torch.cat([sample.unsqueeze(0), near.to(sample)]) for sample, near in zip(samples, beside, strict=True)]
    columns = ["sample", *("nearest" if place == 0 else str(place + 1) for place in range(places.shape[1]))]
    return shown.rows(
        f"nearest/{name}", subject.config, rows, [f"distance {distance:.2f}" for distance in distances[:, 0].tolist()],
        column_labels=columns, column_name="sample, and training data by their distance",
        caption=f"Samples E[x|z], z from {name}, beside the training data nearest to them; rows have the distance "
        f"|x - x'| of the nearest, units of x. Of {subject.count('train'):,} training data.",
    )  # fmt: skip


def _value(subject: Subject, of: str, distances: Tensor) -> Value:
    note = f"|x - x'| to the nearest of {subject.count('train'):,} training data, mean over {len(distances)}"
    return mean(f"{NAME}/{of}", distances[:, 0], unit="units of x", note=note)
