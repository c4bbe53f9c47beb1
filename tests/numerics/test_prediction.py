"""Predictions of videos: the best of many samples against a loop over single ones, what is refused, what is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tests import gangs, subjects
from vae_models import data
from vae_models.backbones.specs import MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.records import Dataset, Split, StoredSplit
from vae_models.evaluation.findings import Findings, NotFinite, read
from vae_models.evaluation.prediction.predictions import gradient
from vae_models.evaluation.prediction.specs import PredictionEvaluation
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.metrics.psnr import psnr
from vae_models.metrics.ssim import ssim
from vae_models.recipes import catalogue
from vae_models.records import NoiseSpec
from vae_models.topologies.vae.specs import ModelConfig

SAMPLES, CONTEXT, TIME = 5, 3, 10


class Walk(nn.Module):
    """Each frame is the one before it and a little noise, as far as beta says: a model of videos in closed form."""

    context = CONTEXT

    def prediction_noise(self, frames: int) -> Mapping[str, NoiseSpec]:
        return {"steps": NoiseSpec(shape=(frames, 1, 16, 16))}

    def predict(self, x: Tensor, frames: int, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        size = 0.05 if beta is None else 0.05 * beta
        return x[:, CONTEXT - 1 : CONTEXT] + size * noise["steps"].cumsum(1)

    drawn_prediction_noise, draw_prediction = prediction_noise, predict


def subject(dataset: Dataset | None = None, model: nn.Module | None = None, **plan: object) -> Subject:
    config = TrainConfig.model_validate(
        {
            "data": DataConfig(name="moving-digits"),
            "model": ModelConfig(latent=2, backbone=MLPConfig(hidden=()), likelihood=GaussianConfig()),
            "steps": 1,
            "dtype": "float64",
        }
    )
    planned = EvaluationPlan.model_validate({"limit": 9, **plan})
    return Subject(model or Walk(), config, dataset or data.load(config.data), planned)


def found(subject: Subject, **settings: object) -> Findings:
    return PredictionEvaluation.model_validate({"samples": SAMPLES, "shown": 2, **settings}).build()(subject)


def singly(subject: Subject, frames: int) -> tuple[Tensor, Tensor]:
    """SSIM and PSNR of every sample of every video, [9, samples, frames], one frame at a time."""
    x = subject.data(torch.arange(9))
    each = torch.zeros(2, 9, SAMPLES, frames, dtype=torch.float64)
    for video in range(9):
        for sample in range(SAMPLES):
            specs = Walk().prediction_noise(frames)
            noise = subject.draw(specs, 1, stream=f"test/prediction/{sample}", first=video)
            predicted = Walk().predict(x[video : video + 1], frames, noise)[0]
            for frame in range(frames):
                truth = x[video, CONTEXT + frame]
                each[0, video, sample, frame] = ssim(truth[None], predicted[frame][None])[0]
                squared_error = float((truth - predicted[frame]).square().mean())
                each[1, video, sample, frame] = -10 * math.log10(squared_error)
    return each[0], each[1]


@pytest.mark.parametrize("frames", [None, 4])
def test_the_best_sample_of_each_video_counts(frames: int | None) -> None:
    findings = found(subject(batch_size=4), frames=frames)
    values = {value.name: value for value in findings.values}
    (table,) = findings.tables
    count = frames or TIME - CONTEXT
    assert [row[0] for row in table.rows] == list(range(CONTEXT + 1, CONTEXT + 1 + count))
    for name, each in zip(("ssim", "psnr"), singly(subject(), count), strict=True):
        chosen = torch.stack([video[max(range(SAMPLES), key=lambda i: float(video[i].mean()))] for video in each])
        for what, expected in ((f"best_of_{SAMPLES}", chosen), ("mean", each.mean(1))):
            value = values[f"prediction/{name}/{what}"]
            assert value.value == pytest.approx(float(expected.mean()), rel=1e-10)
            assert value.error == pytest.approx(float(expected.mean(1).std()) / 3, rel=1e-9)
            column = next(at for at, title in enumerate(table.columns) if title.startswith(f"{name} {what} ["))
            assert [row[column] for row in table.rows] == pytest.approx(expected.mean(0).tolist(), rel=1e-10)
            errors = (expected.std(0) / 3).tolist()
            assert [row[column + 1] for row in table.rows] == pytest.approx(errors, rel=1e-9)
    assert values["prediction/psnr/mean"].unit == "dB"


def test_more_frames_are_predicted_than_the_model_was_trained_on() -> None:
    findings = found(subject(), frames=17)
    (table,) = findings.tables
    assert [row[0] for row in table.rows] == list(range(CONTEXT + 1, 21))
    dataset = data.load(DataConfig(name="moving-digits"))
    assert isinstance(dataset.test, StoredSplit)
    assert dataset.test.continued is not None
    (whole,) = dataset.test.continued.read([np.arange(9)])
    assert whole[:, :TIME].equal(dataset.test.x[:9])  # the same videos, which go on
    still = whole[:, CONTEXT - 1 : CONTEXT].double().expand(9, 17, 1, 16, 16) / 255
    expected = psnr(whole[:, CONTEXT:].double().flatten(0, 1) / 255, still.flatten(0, 1)).clamp(max=100).view(9, 17)
    column = table.columns.index("psnr copy [dB]")
    assert [row[column] for row in table.rows] == pytest.approx(expected.mean(0).tolist(), rel=1e-12)
    assert findings.pictures[1].gif is not None
    assert len(_moments(findings.pictures[1].gif)[0]) == 20


def test_what_no_motion_is_worth_stands_beside_it() -> None:
    values = {value.name: value.value for value in found(subject()).values}
    x = subject().data(torch.arange(9))
    still = x[:, CONTEXT - 1 : CONTEXT].expand_as(x[:, CONTEXT:])
    expected = psnr(x[:, CONTEXT:].flatten(0, 1), still.flatten(0, 1)).clamp(max=100).mean()
    assert values["prediction/psnr/copy"] == pytest.approx(float(expected), rel=1e-12)
    assert values["prediction/ssim/copy"] > values["prediction/ssim/mean"]  # which is noise on top of it


def test_blurred_frames_have_less_gradient_than_sharp_ones_and_noise_has_more() -> None:
    checked = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64).repeat(8, 8).view(1, 1, 1, 16, 16)
    assert gradient(checked).tolist() == [[pytest.approx(2 * 16 * 15 / 16**2, rel=1e-12)]]
    assert gradient(checked / 2 + 0.25).tolist() == [[pytest.approx(16 * 15 / 16**2, rel=1e-12)]]
    assert gradient(torch.full((2, 3, 1, 4, 4), 0.5)).tolist() == [[0.0] * 3] * 2
    values = {value.name: value for value in found(subject()).values}
    x = subject().data(torch.arange(9))[:, CONTEXT:]
    steps = [(x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()]
    expected = sum(float(each.sum()) for each in steps) / x.numel()
    assert values["prediction/gradient/truth"].value == pytest.approx(expected, rel=1e-12)
    assert values["prediction/gradient/truth"].mode is None
    assert values["prediction/gradient/mean"].value > values["prediction/gradient/truth"].value  # it walks at random


def test_psnr_is_ten_times_the_logarithm_of_the_error_and_infinite_of_none() -> None:
    x = torch.zeros(3, 1, 2, 2)
    y = torch.stack([torch.full((1, 2, 2), 0.1), torch.eye(2)[None], torch.zeros(1, 2, 2)])
    assert psnr(x, y).tolist() == pytest.approx([20.0, 10 * math.log10(2), math.inf])
    assert psnr(255 * x, 255 * y, span=255.0)[:2].tolist() == pytest.approx([20.0, 10 * math.log10(2)], rel=1e-6)
    with pytest.raises(ValueError, match=r"\[3, 1, 2, 2\] and \[2, 1, 2, 2\]"):
        psnr(x, y[:2])


def _videos(*, lengths: Tensor | None = None, side: int = 16) -> Dataset:
    split = Split(x=torch.full((9, TIME, 1, side, side), 128, dtype=torch.uint8), lengths=lengths)
    return Dataset(name="videos", train=split, val=split, test=split, shape=(TIME, 1, side, side))


def test_a_frame_that_is_hit_exactly_counts_a_hundred_decibels() -> None:
    values = {value.name: value for value in found(subject(_videos())).values}
    assert values["prediction/psnr/copy"].value == 100
    assert values["prediction/ssim/copy"].value == pytest.approx(1, abs=1e-12)
    assert "100 dB at most" in values["prediction/psnr/copy"].note


def test_a_multi_rate_model_is_asked_at_every_beta() -> None:
    findings = found(subject(betas=(1.0, 0.1)))
    values = {value.name: value.value for value in findings.values}
    assert values["beta_1/prediction/psnr/mean"] == values["prediction/psnr/mean"]
    assert values["beta_0.1/prediction/psnr/mean"] > values["prediction/psnr/mean"]
    assert [table.name for table in findings.tables] == ["prediction", "prediction-beta-1", "prediction-beta-0.1"]


@pytest.mark.parametrize(
    ("frames", "lengths", "message"),
    [
        (
            18,
            None,
            "sees 3 frames, 18 are to be predicted, and the videos of moving-digits have 20: ask for at most 17",
        ),
        (None, [9, 8, 3, 9, 9, 9, 9, 9, 9], "have 3 (the shortest of the 9 that are evaluated): evaluate it on longer"),
        (4, [9, 8, 5, 9, 9, 9, 9, 9, 9], "have 5 (the shortest of the 9 that are evaluated): ask for at most 2"),
    ],
)
def test_videos_that_are_too_short_are_refused(frames: int | None, lengths: list[int] | None, message: str) -> None:
    dataset = None if lengths is None else _videos(lengths=torch.tensor(lengths))
    with pytest.raises(Inapplicable) as refused:
        found(subject(dataset), frames=frames)
    assert message in str(refused.value)


def test_what_is_no_model_of_videos_is_refused_from_its_configuration() -> None:
    assert list(PredictionEvaluation().refusals(trained().config)) == []
    (reason,) = PredictionEvaluation().refusals(subjects.digits().config)
    assert "model vae predicts no frames after a beginning" in reason


class _Lost(Walk):
    def predict(self, x: Tensor, frames: int, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        return super().predict(x, frames, noise, beta) / torch.tensor(0.0)


def test_a_prediction_that_is_no_number_is_named() -> None:
    with pytest.raises(NotFinite, match=r"predictions is NaN or infinite of 9 of 9"):
        found(subject(model=_Lost()))


def test_small_frames_have_no_ssim() -> None:
    class Small(Walk):
        def prediction_noise(self, frames: int) -> Mapping[str, NoiseSpec]:
            return {"steps": NoiseSpec(shape=(frames, 1, 8, 8))}

    findings = found(subject(_videos(side=8), model=Small()))
    assert not [value for value in findings.values if "ssim" in value.name]
    assert [value for value in findings.values if "psnr" in value.name]
    assert findings.notes == ("SSIM was left out: it is of frames of 11 x 11 pixels or more",)
    assert "by PSNR" in findings.pictures[1].caption


# --- pictures -------------------------------------------------------------------------------------------------------


def _moments(gif: bytes) -> tuple[list[NDArray[np.uint8]], list[int]]:
    with Image.open(io.BytesIO(gif)) as image:
        pictures, durations = [], []
        for at in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(at)
            pictures.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    return pictures, durations


def test_the_first_videos_are_seen_as_a_strip_and_in_motion(tmp_path: Path) -> None:
    findings = found(subject())
    assert [picture.name for picture in findings.pictures] == ["prediction-curves", "prediction"]
    prediction = findings.pictures[1]
    assert "3 frames with a line around them are seen, 7 are predicted" in prediction.caption
    x = (subject().data(torch.arange(2)) * 255).round().to(torch.uint8).numpy()
    with Image.open(io.BytesIO(prediction.png)) as image:
        strip = np.asarray(image.convert("RGB"))
    tops = [image.size[1] - (6 - row) * 66 - (1 - row // 3) * 8 for row in range(6)]
    lefts = [image.size[0] - (TIME - frame) * 66 for frame in range(TIME)]
    for video in range(2):
        for row in range(3):
            for frame in range(TIME):
                top, left = tops[3 * video + row], lefts[frame]
                tile = strip[top + 2 : top + 62 : 4, left + 2 : left + 62 : 4]
                same = bool((tile == x[video, frame, 0, :15, :15, None]).all())
                assert same == (row == 0 or frame < CONTEXT)
                lined = tuple(strip[top - 1, left + 30]) == (0, 0x72, 0xB2)
                assert lined == (frame < CONTEXT)
    assert prediction.gif is not None
    pictures, durations = _moments(prediction.gif)
    assert len(pictures) == TIME
    assert durations == [250] * (TIME - 1) + [1250]
    for frame, picture in enumerate(pictures):  # rows are x, best, any; columns the videos
        top, left = picture.shape[0] - 3 * 66, picture.shape[1] - 2 * 66
        for video in range(2):
            tile = picture[top + 2 : top + 62 : 4, left + 66 * video + 2 : left + 66 * video + 62 : 4]
            np.testing.assert_array_equal(tile, np.repeat(x[video, frame, 0, :15, :15, None], 3, axis=2))
    assert found(subject()).pictures[1].gif == prediction.gif
    findings.write(tmp_path / "findings")
    again = read(tmp_path / "findings")
    assert again is not None
    assert again.pictures == findings.pictures


# --- workers and batches --------------------------------------------------------------------------------------------


def trained(**plan: object) -> Subject:
    """A model of videos as it is built, of moving digits."""
    config = TrainConfig.model_validate(
        catalogue()["moving-digits/sigma-svg-tiny"].build().model_dump() | {"dtype": "float64"}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = config.model.build(config.data.facts.shape).double()
    return Subject(model, config, data.load(config.data), EvaluationPlan.model_validate({"limit": 5, **plan}))


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    findings = found(trained(batch_size=2), samples=3)
    torch.save({value.name: value.value for value in findings.values}, folder / f"values-{rank}.pt")
    (folder / f"{rank}.gif").write_bytes(findings.pictures[1].gif or b"")
    dist.destroy_process_group()


def test_neither_workers_nor_batches_change_a_value(tmp_path: Path) -> None:
    alone = found(trained(), samples=3)
    gangs.run(_work, (2, tmp_path), 2)
    for rank in range(2):
        gang = torch.load(tmp_path / f"values-{rank}.pt", weights_only=True)
        assert gang == pytest.approx({value.name: value.value for value in alone.values}, rel=1e-9)
        assert (tmp_path / f"{rank}.gif").read_bytes() == alone.pictures[1].gif
