"""Latents as the data of a training: every batch is drawn from q(z|x) anew, by the loop's own noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from vae_models.data.batching import Indices, Reader, Resident
from vae_models.data.config import DataConfig
from vae_models.data.records import Dataset, Split
from vae_models.data.residency import Direct, Residence
from vae_models.data.spec import DataSpec
from vae_models.records import Encoding, NoiseSpec

NAME, NOISE = "latents", "latents"  # the noise is beside the second stage's own, which is called z


def latents_config(posteriors: Encoding) -> DataConfig:
    """Return the posteriors as a data set of vectors, named by the SHA-256 of their parameters."""
    data, latent = posteriors.mean.shape
    facts = DataSpec(shape=(latent,), axes=("feature",), support="reals", sizes=(data, data, data))
    digest = hashlib.sha256(str(posteriors.mean.dtype).encode())
    for part in (posteriors.mean, posteriors.log_std):
        digest.update(b"none" if part is None else part.contiguous().numpy().tobytes())
    return DataConfig(name=NAME, digest=digest.hexdigest(), facts=facts)


def latents_set(posteriors: Encoding) -> Dataset:
    """Return a data set of the posteriors, the same in each split: nothing is chosen by the loop's evaluations."""
    split = Split(x=posteriors.mean)
    return Dataset(name=NAME, train=split, val=split, test=split, shape=tuple(posteriors.mean.shape[1:]))


class DrawnLatents:
    """A split whose datum i is z ~ q(z|x_i), drawn anew for every batch; where q has no density, its mean.

    So a batch is a function of (seed, step), for any number of workers, as of any other data.
    """

    def __init__(self, posteriors: Encoding, device: torch.device, dtype: torch.dtype) -> None:
        self._mean = posteriors.mean.to(device, dtype)
        self._std = None if posteriors.log_std is None else posteriors.log_std.to(device, dtype).exp()
        self.index_device = device

    def __len__(self) -> int:
        return len(self._mean)

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of z, standard normal; none where q(z|x) has no density."""
        return {} if self._std is None else {NOISE: NoiseSpec(shape=tuple(self._mean.shape[1:]))}

    def batch(self, indices: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Return z = mean + sigma n of the data, [batch, latent]."""
        mean = self._mean.index_select(0, indices)
        return mean if self._std is None else mean + self._std.index_select(0, indices) * noise[NOISE]

    def reader(self, indices: Indices, *, rows: slice = slice(None), end: int) -> Reader:
        """Return a reader of batches that are made when they are asked for."""
        return Direct(self, indices, rows)

    def unfit(self, indices: Tensor) -> tuple[int, ...]:
        """Return those of `indices` whose posterior has a parameter that is not finite."""
        rows = self._mean if self._std is None else self._mean + self._std
        finite = rows.index_select(0, indices.to(self.index_device)).isfinite().all(1).to(indices.device)
        return tuple(cast(list[int], indices[~finite].tolist()))

    def close(self) -> None:
        pass


class LatentsResidence(Residence):
    """Where a run has its latents: one split, for training and for evaluation alike."""

    def __init__(self, posteriors: Encoding, config: DataConfig, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(latents_set(posteriors), config, device, dtype)
        self._drawn = DrawnLatents(posteriors, device, dtype)

    def __getitem__(self, name: str) -> Resident:
        return self._drawn
