"""What each latent dimension does: E[x|z] as one of them goes over its range, the most active first."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures import shown
from vae_models.evaluation.subject import Subject

REACH = 2.0  # standard deviations of q(z_j) to either side


def traversals(subject: Subject, *, dimensions: int, steps: int) -> Picture:
    """Return a row for each of the most active dimensions j, by Var_x E[z_j|x] (Burda et al. 2016): E[x|z] with z_j
    from two standard deviations of q(z_j) below its mean to two above, the others as the first datum's mean has them.
    """
    encoding = subject.posteriors()
    means = encoding.mean.double()
    activity = means.var(0, unbiased=False)
    spread = (activity + (0 if encoding.log_std is None else (2 * encoding.log_std.double()).exp().mean(0))).sqrt()
    order = activity.argsort(descending=True, stable=True)[:dimensions].tolist()
    places = torch.linspace(-REACH, REACH, steps, dtype=torch.float64)
    z = means[0].repeat(len(order), steps, 1)
    for row, j in enumerate(order):
        z[row, :, j] = means[:, j].mean() + places * spread[j]
    decoded = _decoded(subject, z.flatten(0, 1))
    return shown.rows(
        "traversals", subject.config, torch.split(decoded, steps), [f"z{j}, var {activity[j]:.2f}" for j in order],
        column_labels=[f"{place:+.2g}" if place else "0" for place in places.tolist()],
        column_name="standard deviations of q(z_j) from its mean [1]",
        caption="E[x|z] as one dimension of z goes over its range: columns are standard deviations of q(z_j) from its "
        "mean, rows dimensions with the variance of their posterior means, the most active first. The others are as of "
        "the first datum.",
    )  # fmt: skip


def _decoded(subject: Subject, z: Tensor) -> Tensor:
    space = subject.space

    def decode(start: int, end: int) -> dict[str, Tensor]:
        return {"x": space.decode(z[start:end].to(subject.device, subject.dtype))}

    return subject.spread(decode, len(z), size=subject.plan.batch_size, what="traversals")["x"]
