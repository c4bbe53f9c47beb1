"""SSIM, PSNR and sharpness of predicted frames: of the best of many samples, of any, and of no motion at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vae_models.data.records import ReadRows
from vae_models.evaluation.averages import finite
from vae_models.evaluation.memory import room
from vae_models.evaluation.subject import Inapplicable, Rows, Subject
from vae_models.metrics.psnr import psnr
from vae_models.metrics.ssim import WINDOW, ssim
from vae_models.protocols import HasPrediction

MOST_DECIBELS = 100.0  # of a frame: more, and an infinity where it is hit exactly, counts as this
METRICS = ("ssim", "psnr")
GRADIENT = "gradient"
COPY, TRUTH = "copy", "truth"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is predicted. context: frames that are seen; frames: that are predicted; samples: of each video.

    continued: the split's videos in more frames than the model was trained on, where so many are to be predicted
    """

    model: HasPrediction
    context: int
    frames: int
    samples: int
    continued: ReadRows | None = None

    @classmethod
    def of(cls, subject: Subject, *, frames: int | None, samples: int) -> Asked:
        """Return what is asked of this model about these data. Raise Inapplicable where a video is too short."""
        model = subject.module
        if not isinstance(model, HasPrediction):
            raise Inapplicable(f"model {subject.config.model.kind} predicts no frames after a beginning: leave it out")
        lengths = getattr(subject.dataset, subject.plan.split).lengths
        shortest = subject.dataset.shape[0] if lengths is None else int(lengths[: subject.count()].min())
        left, continued = shortest - model.context, None
        if left < (frames or 1) and lengths is None and subject.config.data.binarize == "none":
            continued = getattr(getattr(subject.dataset, subject.plan.split), "continued", None)
            shortest = shortest if continued is None else int(continued.shape[1])
            left = shortest - model.context
        if left < (frames or 1):
            where = "" if lengths is None else f" (the shortest of the {subject.count():,} that are evaluated)"
            mend = f"ask for at most {left} frames" if left > 0 else "evaluate it on longer ones"
            raise Inapplicable(
                f"the model sees {model.context} frames, {frames or 1} are to be predicted, and the videos of "
                f"{subject.config.data.name} have {shortest}{where}: {mend}"
            )
        return cls(model=model, context=model.context, frames=frames or left, samples=samples, continued=continued)

    def predict(self, subject: Subject, rows: Rows, sample: int, beta: float | None) -> Tensor:
        """Return prediction number `sample` of these data, which lie side by side in the split."""
        noise = subject.draw(
            self.model.prediction_noise(self.frames), len(rows), stream=f"{subject.plan.split}/prediction/{sample}",
            first=int(rows.indices[0]),
        )  # fmt: skip
        return self.model.predict(rows.x[:, : self.context], self.frames, noise, subject.gates(beta))

    def truth(self, subject: Subject, rows: Rows) -> Tensor:
        """Return the frames that are predicted of these data, [batch, frames, channels, height, width]."""
        x = rows.x
        if self.continued is not None:
            (stored,) = self.continued.read([rows.indices.cpu().numpy()])
            x = stored.to(subject.device, subject.dtype).div_(255)
        return x[:, self.context : self.context + self.frames]


def scores(subject: Subject, asked: Asked, beta: float | None) -> dict[str, Float64[Tensor, "data samples frames"]]:
    """Return SSIM, PSNR [dB] and gradient [1 per pixel] of each sample of each video, frame by frame; under "copy/"
    the first two of the last frame that was seen, repeated, [data, 1, frames], and under "truth/" the truth's gradient;
    SSIM where frames are large enough for it.

    Raise NotFinite where a prediction is not.
    """

    def compute(rows: Rows) -> dict[str, Tensor]:
        truth = asked.truth(subject, rows)
        last = rows.x[:, asked.context - 1 : asked.context].expand_as(truth)
        copied = {f"{COPY}/{name}": each.unsqueeze(1) for name, each in _compared(truth, last)}
        samples = (asked.predict(subject, rows, sample, beta) for sample in range(asked.samples))
        of_samples = [dict(_compared(truth, each)) | {GRADIENT: gradient(each)} for each in samples]
        copied[f"{TRUTH}/{GRADIENT}"] = gradient(truth).unsqueeze(1)
        return copied | {name: torch.stack([each[name] for each in of_samples], dim=1) for name in of_samples[0]}

    def batch(start: int, end: int) -> Mapping[str, Tensor]:
        indices = torch.arange(start, end) % subject.count()
        x = subject.data(indices).to(subject.device)
        rows = Rows(x=x, mask=None, indices=indices)
        return dict(_compared(asked.truth(subject, rows), asked.predict(subject, rows, 0, beta)))

    compared = subject.map(compute, what="predictions", batch_size=room(subject, batch))
    for name, each in compared.items():
        finite(f"{name} of the predictions", each)
    return compared


def _compared(truth: Tensor, predicted: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of a metric and its values, [batch, frames]."""
    shape, frames = truth.shape[:2], truth.flatten(0, 1)
    predicted = predicted.flatten(0, 1)
    if min(truth.shape[-2:]) >= WINDOW:
        yield "ssim", ssim(frames, predicted).view(shape)
    yield "psnr", psnr(frames, predicted).clamp(max=MOST_DECIBELS).view(shape)


def gradient(frames: Float[Tensor, "batch frames channels height width"]) -> Float[Tensor, "batch frames"]:
    """Return the mean over a frame's channels and pixels of |x_right - x| + |x_below - x|: how sharp it is, wherever
    its things are. A blurred frame has less than the truth, noise has more. Mathieu, Couprie and LeCun (2016) compare
    these gradients pixel by pixel (equation 6), which asks for the right place, too.
    """
    across = frames.diff(dim=-1).abs().sum((-3, -2, -1))
    down = frames.diff(dim=-2).abs().sum((-3, -2, -1))
    return (across + down) / frames[0, 0].numel()


def best(each: Float64[Tensor, "data samples frames"]) -> Int64[Tensor, " data"]:
    """Return the number of each video's best sample: of the largest mean over its frames, the first of equals."""
    return each.mean(2).argmax(1)


def of_best(each: Float64[Tensor, "data samples frames"]) -> Float64[Tensor, "data frames"]:
    """Return the values of each video's best sample."""
    return each[torch.arange(len(each)), best(each)]
