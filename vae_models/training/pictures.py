"""What a model sees and dreams, as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vae_models.data.batching import Resident
from vae_models.metrics import sentences
from vae_models.metrics.pictures import as_images, reconstructions, samples
from vae_models.protocols import HasPrediction, Model, Sampler
from vae_models.training.step import NoiseSource

COLUMNS = 10
ROWS = 6
VIDEOS = 5  # dimensions of a batch: [n, time, channels, height, width]
SENTENCES = 12  # of which there is a picture, each over its reconstruction
DRAWN = 2**16  # elements of the data that are drawn, or a row of them: some inverses take 20 microseconds for each


@torch.no_grad()
def pictures(
    model: nn.Module,
    data: Resident,
    source: NoiseSource,
    sampler: Sampler,
    *,
    masks: Callable[[Tensor], Tensor | None] = lambda indices: None,
    vocabulary: Sequence[str] | None = None,
) -> dict[str, bytes]:
    """Return {"reconstructions": rows of originals, each over its row of reconstructions; "samples": the sampler's},
    and "draws": x ~ p(x|z) of z ~ p(z), where the likelihood can draw. Of a model that continues a beginning there are
    the reconstructions.

    Data and noise are always the same, so that pictures of different steps and runs can be laid side by side. Tokens
    are written as sentences. masks: see `evaluate`; vocabulary: the tokens' texts, None where nobody knows them.
    """
    parts = cast(Model, model)
    was_training = model.training
    model.eval()
    try:
        n = min(len(data), COLUMNS * ROWS // 2)
        noise = source.draw({**data.noise(), **parts.noise()}, n, stream="pictures", step=0)
        indices = torch.arange(n, device=data.index_device)
        x = data.batch(indices, noise)
        trace = parts(x, noise, None, masks(indices))
        shown = {"reconstructions": _reconstructions(trace.target, trace.mean, vocabulary)}
        if isinstance(model, HasPrediction):
            return shown
        dreams = sampler.means(parts, source.draw(sampler.noise(parts), COLUMNS * ROWS, stream="samples", step=0))
        shown["samples"] = _samples(dreams, vocabulary)
        if parts.sampled:
            count = COLUMNS * min(ROWS, max(1, DRAWN // (COLUMNS * math.prod(x.shape[1:]))))
            noise = source.draw(parts.sample_noise(), COLUMNS * ROWS, stream="samples", step=0)
            draws = parts.sample({name: value[:count] for name, value in noise.items()})
            shown["draws"] = _samples(draws, vocabulary)
        return shown
    finally:
        model.train(was_training)


def _reconstructions(x: Tensor, means: Tensor, vocabulary: Sequence[str] | None) -> bytes:
    if x.ndim == VIDEOS:  # frames side by side: one to a row
        return reconstructions(as_images(x[:ROWS]), as_images(means[:ROWS]), 1)
    if x.is_floating_point():
        return reconstructions(as_images(x), as_images(means), COLUMNS)
    written = (sentences.texts(each[:SENTENCES], vocabulary) for each in (x, means))
    return sentences.pairs(*written)


def _samples(x: Tensor, vocabulary: Sequence[str] | None) -> bytes:
    if x.is_floating_point():
        return samples(as_images(x), COLUMNS)
    return sentences.page([("", text) for text in sentences.texts(x[: 2 * SENTENCES], vocabulary)])
