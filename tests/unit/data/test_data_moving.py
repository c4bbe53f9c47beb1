"""Digits that move: against a slow account of the rule, its laws, and who asks for which videos in what order."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vae_models import data
from vae_models.data.config import DataConfig
from vae_models.data.generated import read_digits
from vae_models.data.moving import Motion, enlarged
from vae_models.data.places import Places
from vae_models.data.residency import Residence
from vae_models.data.sources import SOURCES

DIGITS = np.random.RandomState(1).randint(0, 256, (7, 8, 8)).astype(np.uint8)
STREAM = "moving/test"
MOVING_DIGITS_TEST = "aa8a2cd0b5d05dc49ad6d5aa602e4d018a0f1b81983f26f99767903e1d3fa1a0"  # SHA-256 of its bytes


def _by_hand(motion: Motion, number: int, seed: int) -> np.ndarray:
    """One video, pixel by pixel: the published loop with the video's own numbers."""
    from hashlib import blake2b

    key = np.array([seed, int.from_bytes(blake2b(STREAM.encode(), digest_size=8).digest(), "little")], np.uint64)
    philox = np.random.Philox(key=key, counter=np.array([0, number, 0, 0], np.uint64))
    raw = [int(each) >> 32 for each in philox.random_raw(motion.digits * (5 + 4 * motion.frames))]
    video = np.zeros((motion.frames, motion.field, motion.field))
    edge, speed = motion.field - 8, motion.speed
    for digit in range(motion.digits):
        beginning = raw[5 * digit : 5 * digit + 5]
        which, y, x = (each * size >> 32 for each, size in zip(beginning, (7, edge, edge), strict=False))
        dy, dx = ((each * (2 * speed + 1) >> 32) - speed for each in beginning[3:])
        for frame in range(motion.frames):
            at = 5 * motion.digits + 4 * (frame * motion.digits + digit)
            away = [1 + (raw[at + place] * speed >> 32) for place in (0, 2)]
            free = [(raw[at + place] * (2 * speed + 1) >> 32) - speed for place in (1, 3)]
            if y < 0 or y >= edge:
                low = y < 0
                y = 0 if low else edge - 1
                dy, dx = (-dy, dx) if motion.deterministic else (away[0] if low else -away[0], free[0])
            if x < 0 or x >= edge:
                low = x < 0
                x = 0 if low else edge - 1
                dy, dx = (dy, -dx) if motion.deterministic else (free[1], away[1] if low else -away[1])
            for row in range(8):
                for column in range(8):
                    video[frame, y + row, x + column] += DIGITS[which, row, column]
            y, x = y + dy, x + dx
    return np.minimum(video, 255)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**40),
    st.integers(0, 2**31),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(10, 20),
)
def test_a_video_is_the_published_loops(
    number: int, seed: int, deterministic: bool, digits: int, speed: int, field: int
) -> None:
    motion = Motion(frames=12, field=field, speed=speed, digits=digits, deterministic=deterministic)
    (video,) = motion.videos(np.array([number]), seed=seed, stream=STREAM, digits=DIGITS)
    np.testing.assert_array_equal(video[:, 0], _by_hand(motion, number, seed))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=20), st.integers(1, 30), st.booleans())
def test_a_video_is_a_function_of_its_number_and_a_short_one_the_beginning_of_a_long_one(
    numbers: list[int], frames: int, deterministic: bool
) -> None:
    asked = {"seed": 3, "stream": STREAM, "digits": DIGITS}
    long = Motion(frames=30, field=16, speed=2, deterministic=deterministic).videos(np.arange(100), **asked)
    motion = Motion(frames=frames, field=16, speed=2, deterministic=deterministic)
    np.testing.assert_array_equal(motion.videos(np.array(numbers), **asked), long[numbers, :frames])
    other = motion.videos(np.array(numbers), **{**asked, "stream": "moving/train"})
    assert not np.array_equal(other, long[numbers, :frames])


def test_beginnings_are_uniform_and_walls_turn_digits_away() -> None:
    motion = Motion(frames=40, field=64, speed=4)
    which, places = motion.paths(np.arange(4000), seed=0, stream=STREAM, choices=10, side=32)
    assert stats.chisquare(np.bincount(which.ravel(), minlength=10)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(places[:, 0].ravel(), minlength=32)).pvalue > 1e-3
    assert places.min() == 0
    assert places.max() == 31
    moves = np.diff(places, axis=1)
    assert np.abs(moves).max() == 4
    inside = ((places[:, 0] >= 4) & (places[:, 0] <= 27)).all(-1)  # no wall is near: the first move is the velocity
    assert stats.chisquare(np.bincount(moves[:, 0][inside].ravel() + 4, minlength=9)).pvalue > 1e-3
    at_wall = places[:, 1:-1] == 0
    ran_into_it = at_wall & (moves[:, :-1] < 0)
    assert (moves[:, 1:][ran_into_it] >= 0).all()
    turning = Motion(frames=40, field=64, speed=4, deterministic=True)
    _, mirrored = turning.paths(np.arange(500), seed=0, stream=STREAM, choices=10, side=32)
    speeds = np.abs(np.diff(mirrored, axis=1))
    assert (np.sort(speeds, axis=1)[:, 20] == speeds.max(axis=1)).all()  # the same, but where a wall cuts it off


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_moving_digits_are_of_the_digits_of_that_split(split: str, tmp_path: Path) -> None:
    moving = data.load(DataConfig(name="moving-digits"), data_dir=tmp_path, cache_dir=tmp_path / "cache")
    facts = SOURCES.get("moving-digits").facts
    x = getattr(moving, split).x
    assert x.shape == (facts.sizes[("train", "val", "test").index(split)], *facts.shape)
    assert x.dtype == torch.uint8
    own = getattr(data.load(DataConfig(name="digits")), split).x[:, 0]
    motion = Motion(frames=10, field=16, speed=2)
    which, places = motion.paths(np.arange(50), seed=0, stream=f"moving/{split}", choices=len(own), side=8)
    for video in range(50):
        (row, column), (other_row, other_column) = places[video, 3].tolist()
        expected = torch.zeros(16, 16, dtype=torch.int64)
        expected[row : row + 8, column : column + 8] += own[which[video, 0]]
        expected[other_row : other_row + 8, other_column : other_column + 8] += own[which[video, 1]]
        assert x[video, 3, 0].long().equal(expected.clamp(max=255))
    assert list(tmp_path.iterdir()) == []


def test_the_rule_stays_what_it_is() -> None:
    """Models, their tests and what is reported of them are of these bytes."""
    test = data.load(DataConfig(name="moving-digits")).test.x
    assert (
        sha256(test.numpy().tobytes()).hexdigest() == "aa8a2cd0b5d05dc49ad6d5aa602e4d018a0f1b81983f26f99767903e1d3fa1a0"
    )


def test_batches_are_the_same_bits_made_ahead_and_kept_whole() -> None:
    config = DataConfig(name="moving-digits")
    dataset = data.load(config)
    places = [
        Residence(dataset, config.model_copy(update={"residency": place}), torch.device("cpu"), torch.float32)
        for place in ("device", "host", "stream")
    ]
    for step in range(3):
        indices = torch.randperm(4000, generator=torch.Generator().manual_seed(step))[:60]
        kept, gathered, made = (place["train"].batch(indices, {}) for place in places)
        assert kept.equal(gathered)
        assert kept.equal(made)
        assert kept.equal(dataset.train.x[indices] / 255)
    for place in places:
        place.close()


@pytest.mark.parametrize("name", ["moving-mnist", "moving-mnist-deterministic"])
def test_moving_mnist_is_of_mnists_digits(name: str, published: Places) -> None:
    moving, facts = SOURCES.get(name).load(published), SOURCES.get(name).facts
    assert [len(split) for split in (moving.train, moving.val, moving.test)] == list(facts.sizes)
    assert moving.train.rows.shape[1:] == facts.shape
    images = SOURCES.get("mnist").load(published).val.x[:, 0].numpy()
    motion = Motion(frames=15, field=64, speed=4, deterministic=name.endswith("deterministic"))
    which, places = motion.paths(np.array([0]), seed=0, stream="moving/val", choices=len(images), side=32)
    expected = torch.zeros(64, 64, dtype=torch.int64)
    for digit, (row, column) in zip(enlarged(images[which[0]], 32), places[0, 14].tolist(), strict=True):
        expected[row : row + 32, column : column + 32] += torch.from_numpy(digit)
    assert moving.val.rows[:1][0, 14, 0].long().equal(expected.clamp(max=255))


def test_mnists_digits_are_enlarged_as_pillow_does() -> None:
    images, _ = read_digits()
    large = enlarged(images[:20], 32)
    assert large.shape == (20, 32, 32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(images[:20, None].astype(np.float64)), size=(32, 32), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(large, wanted[:, 0], atol=1.01)
