"""What a model sees and dreams, as PNG bytes."""

from __future__ import annotations

import io
from typing import cast

import torch
from torch import Tensor, nn

from vae_models.data.batching import Resident
from vae_models.protocols import Model
from vae_models.training.step import NoiseSource

COLUMNS = 10
ROWS = 6
GAP = 2  # pixels between images
SMALLEST_SIDE = 48  # pixels: smaller images are enlarged by a whole factor


def grid_png(images: Tensor, columns: int = COLUMNS) -> bytes:
    """[n, channels, height, width] in [0, 1] (clipped; 1 or 3 channels) -> one PNG, row by row."""
    from PIL import Image

    pixels = images.detach().to("cpu", torch.float32).clamp(0, 1).mul(255).round().to(torch.uint8)
    factor = max(1, -(-SMALLEST_SIDE // min(pixels.shape[2:])))
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    n, channels, height, width = pixels.shape
    rows = -(-n // columns)
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 128, dtype=torch.uint8)
    for index in range(n):
        top = GAP + (index // columns) * (height + GAP)
        left = GAP + (index % columns) * (width + GAP)
        canvas[:, top : top + height, left : left + width] = pixels[index]
    array = canvas[0].numpy() if channels == 1 else canvas.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


@torch.no_grad()
def pictures(model: nn.Module, data: Resident, source: NoiseSource) -> dict[str, bytes]:
    """{"reconstructions": rows of originals, each over its row of reconstructions; "samples": from the prior}.

    Always the same data and the same noise, so that pictures of different steps and runs can be laid side by side.
    """
    parts = cast(Model, model)
    was_training = model.training
    model.eval()
    try:
        n = min(len(data), COLUMNS * ROWS // 2)
        noise = source.draw({**data.noise(), **parts.noise()}, n, stream="pictures", step=0)
        x = data.batch(torch.arange(n, device=source.device), noise)
        mean = parts(x, noise).mean
        pairs = [part for row in range(0, n, COLUMNS) for part in _row_pair(x, mean, row)]
        samples = parts.sample_mean(source.draw(parts.prior_noise(), COLUMNS * ROWS, stream="samples", step=0))
        return {"reconstructions": grid_png(torch.cat(pairs)), "samples": grid_png(samples)}
    finally:
        model.train(was_training)


def _row_pair(x: Tensor, mean: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """One row of originals and one of reconstructions, filled up to whole rows with white."""
    originals, reconstructions = x[row : row + COLUMNS], mean[row : row + COLUMNS]
    missing = COLUMNS - originals.shape[0]
    blank = originals.new_ones((missing, *originals.shape[1:]))
    return torch.cat([originals, blank]), torch.cat([reconstructions, blank])
