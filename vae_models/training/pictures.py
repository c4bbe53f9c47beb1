"""What a model sees and dreams, as PNG bytes."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from vae_models.data.batching import Resident
from vae_models.metrics.pictures import as_images, reconstructions, samples
from vae_models.protocols import Model, Sampler
from vae_models.training.step import NoiseSource

COLUMNS = 10
ROWS = 6
DRAWN = 2**16  # elements of the data that are drawn, or a row of them: some inverses take 20 microseconds for each


@torch.no_grad()
def pictures(model: nn.Module, data: Resident, source: NoiseSource, sampler: Sampler) -> dict[str, bytes]:
    """Return {"reconstructions": rows of originals, each over its row of reconstructions; "samples": the sampler's},
    and "draws": x ~ p(x|z) of z ~ p(z), where the likelihood can draw.

    Data and noise are always the same, so that pictures of different steps and runs can be laid side by side.
    """
    parts = cast(Model, model)
    was_training = model.training
    model.eval()
    try:
        n = min(len(data), COLUMNS * ROWS // 2)
        noise = source.draw({**data.noise(), **parts.noise()}, n, stream="pictures", step=0)
        x = data.batch(torch.arange(n, device=data.index_device), noise)
        mean = parts(x, noise).mean
        dreams = sampler.means(parts, source.draw(sampler.noise(parts), COLUMNS * ROWS, stream="samples", step=0))
        shown = {
            "reconstructions": reconstructions(as_images(x), as_images(mean), COLUMNS),
            "samples": samples(as_images(dreams), COLUMNS),
        }
        if parts.sampled:
            count = COLUMNS * min(ROWS, max(1, DRAWN // (COLUMNS * math.prod(x.shape[1:]))))
            noise = source.draw(parts.sample_noise(), COLUMNS * ROWS, stream="samples", step=0)
            draws = parts.sample({name: value[:count] for name, value in noise.items()})
            shown["draws"] = samples(as_images(draws), COLUMNS)
        return shown
    finally:
        model.train(was_training)
