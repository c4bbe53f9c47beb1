"""What is found out about a trained model: how large its reconstructions are. And features of images."""

from __future__ import annotations

from typing import Literal

from vae_models.evaluation.features.specs import FeaturesSpec
from vae_models.evaluation.specs import EvaluatorSpec


class NormsEvaluation(EvaluatorSpec):
    """The mean of |E[x|z]| over the data, in units of x."""

    kind: Literal["norms"] = "norms"

    def build(self):
        return norms


def norms(subject):
    """mean_i |E[x_i|z_i]|, z_i a sample of q(z|x_i)."""
    from vae_models.evaluation.averages import mean
    from vae_models.evaluation.findings import Findings

    def batch(rows):
        return {"norm": subject.model(rows.x, rows.noise).mean.flatten(1).norm(dim=1)}

    values = subject.map(batch, what="norms", noise=subject.model.noise(), stream="norms")["norm"]
    return Findings(values=(mean("reconstruction_norm", values, unit="units of x", mode=None),))


class MomentsFeatures(FeaturesSpec):
    """Mean and standard deviation of each channel and row."""

    kind: Literal["moments"] = "moments"

    def build(self, device):
        return RowMoments()


class RowMoments:
    key, bytes_per_image = "moments", 1 << 20

    def __call__(self, images):
        from torch import cat

        return cat([images.mean(3), images.std(3)], 1).flatten(1)
