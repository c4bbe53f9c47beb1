"""SSIM, PSNR and sharpness of predicted frames: of the best of many samples, of any, and of no motion at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from vae_models.evaluation.averages import mean, standard_error
from vae_models.evaluation.findings import Findings, Table, Value
from vae_models.evaluation.prediction import drawings
from vae_models.evaluation.prediction.predictions import (
    COPY,
    GRADIENT,
    METRICS,
    MOST_DECIBELS,
    TRUTH,
    Asked,
    of_best,
    scores,
)
from vae_models.evaluation.subject import Subject
from vae_models.measures import prefix
from vae_models.metrics.ssim import WINDOW

UNITS = {"ssim": "1", "psnr": "dB", GRADIENT: "1/pixel"}
Curves = Mapping[str, Float64[Tensor, "data frames"]]  # of each video, by name: see `curves`


@dataclass(frozen=True, kw_only=True)
class PredictionEvaluator:
    """Predictions of the plan's videos, at beta = 1 and each beta of the plan (Denton and Fergus 2018, section 4).

    A prediction is of means E[x_t | x_<t, z_<=t], each fed back, of z drawn from the prior after the beginning.

    prediction/METRIC/best_of_N: of the sample of each video whose mean over frames is the best, by this metric itself
    prediction/METRIC/mean:      of the mean over samples
    prediction/METRIC/copy:      of the last frame that was seen, repeated: what no motion is worth

    prediction/gradient/mean:    how sharp predictions are (`predictions.gradient`), over samples: neither way is better
    prediction/gradient/truth:   how sharp the frames are that they stand for

    METRIC: ssim (`metrics.ssim`), and psnr, dB (`metrics.psnr`), of each frame; means over frames. Errors are
    over videos. The table "prediction" has them frame by frame.
    """

    samples: int
    frames: int | None
    shown: int

    def __call__(self, subject: Subject) -> Findings:
        """Return values, curves and pictures. Raise Inapplicable where a video is too short, or the model predicts
        nothing, NotFinite where a prediction is not.
        """
        asked = Asked.of(subject, frames=self.frames, samples=self.samples)
        findings = Findings(notes=tuple(_left_out(subject)))
        for beta in (None, *subject.plan.betas):
            each = scores(subject, asked, beta)
            by_frame = curves(each, asked.samples)
            at = "" if beta is None else f"-beta-{beta:g}"
            findings += Findings(
                values=tuple(_values(by_frame, prefix(beta))),
                tables=(_table(by_frame, asked, f"prediction{at}"),),
                pictures=(drawings.curves(by_frame, asked, f"prediction-curves{at}"),),
            )
            if beta is None:
                findings += Findings(pictures=drawings.videos(subject, asked, each, shown=self.shown))
        return findings


def curves(each: Mapping[str, Tensor], samples: int) -> dict[str, Float64[Tensor, "data frames"]]:
    """Return by METRIC/best_of_N, METRIC/mean and METRIC/copy the values of each video, frame by frame, and by
    gradient/mean and gradient/truth.
    """
    by_name: dict[str, Tensor] = {}
    for name in METRICS:
        if name in each:
            by_name[f"{name}/best_of_{samples}"] = of_best(each[name])
            by_name[f"{name}/mean"] = each[name].mean(1)
            by_name[f"{name}/{COPY}"] = each[f"{COPY}/{name}"][:, 0]
    by_name[f"{GRADIENT}/mean"] = each[GRADIENT].mean(1)
    by_name[f"{GRADIENT}/{TRUTH}"] = each[f"{TRUTH}/{GRADIENT}"][:, 0]
    return by_name


def _values(curves: Curves, where: str) -> Iterator[Value]:
    for name, each in curves.items():
        metric = name.partition("/")[0]
        unit = UNITS[metric]
        note = f"mean over {each.shape[1]} frames"
        if unit == "dB":
            note += f"; a frame counts {MOST_DECIBELS:g} dB at most"
        yield mean(
            f"{where}prediction/{name}", each.mean(1), unit=unit, mode="max" if metric in METRICS else None, note=note
        )


def _table(curves: Curves, asked: Asked, name: str) -> Table:
    columns = ["frame"]
    series: list[list[float | None]] = []
    for each, values in curves.items():
        metric, _, what = each.partition("/")
        columns += [f"{metric} {what} [{UNITS[metric]}]", f"error of {metric} {what}"]
        series += [values.mean(0).tolist(), [standard_error(frame) for frame in values.T]]
    numbers = range(asked.context + 1, asked.context + asked.frames + 1)
    rows = tuple(zip(numbers, *series, strict=True))
    note = f"frames are numbered from 1; {asked.context} are seen; errors are standard errors over videos"
    return Table(name=name, columns=tuple(columns), rows=rows, note=note)


def _left_out(subject: Subject) -> Iterator[str]:
    if min(subject.dataset.shape[-2:]) < WINDOW:
        yield f"SSIM was left out: it is of frames of {WINDOW} x {WINDOW} pixels or more"
