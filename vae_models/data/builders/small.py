"""The digits, the pendulum, Frey Faces, Caltech silhouettes, CMU motion.

digits            1,297 / 250 / 250: scikit-learn's 1,797 in the order of RandomState(0).permutation
frey-faces        1,565 / 200 / 200 in the order of RandomState(0).permutation (no split is published)
caltech-silhouettes  4,100 / 2,264 / 2,307: split 1 as published; 255 for the object, 0 for the background
cmu-motion        4,783 / 598 / 602: of every trial the first 80 %, the next 10 % and the last 10 % of the frames.
                  float32, **radians**, 50 joint angles: the skeleton's channels in its order without the root and
                  the fingers and thumbs; neither centred nor scaled otherwise. Four of the five movements of
                  Klushyn et al. 2019: walk, jog, balance, punch (which trials they took is not published). The fifth is
                  kicking, of which no trial has been at hand: a set's sizes are its trials' frames, which have to be
                  counted first
pendulum          5,000 / 1,000 / 1,000: consecutive stretches of the angle sequence, each covering the circle evenly
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from vae_models.data import formats, generated
from vae_models.data.builders.common import Files, Images, cut, dataset, from_files
from vae_models.data.catalogue.motion import SUBJECTS, TRIALS, Trial
from vae_models.data.records import Dataset

# numpy keeps the streams of the legacy RandomState fixed for ever, which it does not promise for Generator
_DIGITS_SEED = 0
_FREY_SEED = 0
_CHANNELS = 62
_LEFT_OUT = ("root", "lfingers", "lthumb", "rfingers", "rthumb")  # 6 + 6 of them


@from_files
def digits(files: Files) -> Dataset:
    images, labels = generated.read_digits()
    order = np.random.RandomState(_DIGITS_SEED).permutation(len(images))
    return dataset(files, *cut(images[order], labels[order], files.facts.sizes))


@from_files
def pendulum(files: Files) -> Dataset:
    angles = generated.pendulum_angles(sum(files.facts.sizes))
    images = generated.render_pendulum(angles)
    return dataset(files, *cut(images, angles.astype(np.float32), files.facts.sizes))


@from_files
def frey_faces(files: Files) -> Dataset:
    faces = files.read("faces", partial(_counted_faces, sum(files.facts.sizes)))
    faces = faces[np.random.RandomState(_FREY_SEED).permutation(len(faces))]
    a, b = files.facts.sizes[0], sum(files.facts.sizes[:2])
    return dataset(files, (faces[:a], None), (faces[a:b], None), (faces[b:], None))


def _counted_faces(count: int, content: bytes) -> Images:
    faces = formats.read_frey_faces(content)
    if len(faces) != count:
        raise ValueError(f"{len(faces):,} frames, expected {count:,}")
    return faces


@from_files
def silhouettes(files: Files) -> Dataset:
    parts = files.read("split1", partial(_counted_silhouettes, files.facts.sizes))
    train, val, test = ((images * np.uint8(255), labels) for images, labels in parts.values())
    return dataset(files, train, val, test)


def _counted_silhouettes(
    sizes: tuple[int, int, int], content: bytes
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    parts = formats.read_silhouettes(content)
    counts = tuple(len(images) for images, _ in parts.values())
    if counts != sizes:
        raise ValueError(f"{counts} images in train, val and test, expected {sizes}")
    return parts


@from_files
def cmu_motion(files: Files) -> Dataset:
    skeletons = {subject: files.read(f"skeleton-{subject}", _skeleton) for subject in SUBJECTS}
    splits: list[list[tuple[NDArray[np.float32], NDArray[np.int64]]]] = [[], [], []]
    for trial in TRIALS:
        angles = files.read(trial.name, partial(_joint_angles, skeletons[trial.subject], trial))
        n = len(angles)
        labels = np.full(n, trial.movement, dtype=np.int64)
        for split, stretch in zip(
            splits, (slice(0, n * 8 // 10), slice(n * 8 // 10, n * 9 // 10), slice(n * 9 // 10, n)), strict=True
        ):
            split.append((angles[stretch], labels[stretch]))
    train, val, test = (
        (np.concatenate([part for part, _ in split]), np.concatenate([labels for _, labels in split]))
        for split in splits
    )
    return dataset(files, train, val, test)


def _skeleton(content: bytes) -> formats.Skeleton:
    skeleton = formats.read_asf(content)
    channels = sum(count for _, count in skeleton.channels)
    if channels != _CHANNELS:
        raise ValueError(f"{channels} channels in {len(skeleton.channels)} bones, expected {_CHANNELS}")
    return skeleton


def _joint_angles(skeleton: formats.Skeleton, trial: Trial, content: bytes) -> NDArray[np.float32]:
    """Return the joint angles, [frames, 50], in radians.
    Raise ValueError unless there are as many frames as published.
    """
    motion = formats.read_amc(content, skeleton)
    if len(motion) != trial.frames:
        raise ValueError(f"{len(motion):,} frames, expected {trial.frames:,}")
    kept = [name not in _LEFT_OUT for name, count in skeleton.channels for _ in range(count)]
    return np.asarray(np.deg2rad(motion[:, kept]), dtype=np.float32)
