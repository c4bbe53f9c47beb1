"""Videos of digits that move in a field, by the rule of stochastic moving MNIST (Denton and Fergus 2018, "Stochastic
video generation with a learned prior", section 4.1, and the code that it points to).

A digit begins at a uniform place, with a velocity whose two components are uniform whole numbers in [-speed, speed].
Before each frame a coordinate that has left the field is put back to its edge, and the velocity is drawn anew: that
component away from the wall, uniform in 1 .. speed, the other one uniform in [-speed, speed]; first by the vertical
coordinate, then by the horizontal one. In the deterministic version that component changes its sign. Digits that
overlap are added, and their sum is cut off at white.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_FIRST = 5  # numbers that a digit's beginning is drawn from: which digit, place (2), velocity (2)
_STEP = 4  # and each of its frames: a new velocity by the vertical wall (2), and by the horizontal one (2)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How digits move.

    frames:        of a video
    field:         pixels a side
    speed:         the most that a coordinate changes from frame to frame, pixels
    digits:        in one video
    deterministic: whether a wall reflects, and nothing is drawn after the first frame
    """

    frames: int
    field: int
    speed: int
    digits: int = 2
    deterministic: bool = False

    def videos(self, numbers: Integers, *, seed: int, stream: str, digits: Bytes) -> Bytes:
        """Return the videos of these numbers, [n, frames, 1, field, field]: functions of (seed, stream, number) alone.

        digits: [m, side, side], of which each video's are drawn, with replacement. A video of fewer frames is the
        beginning of the one with more.
        """
        which, places = self.paths(numbers, seed=seed, stream=stream, choices=len(digits), side=digits.shape[1])
        videos = np.zeros((len(numbers), self.frames, 1, self.field, self.field), np.uint8)
        windows = sliding_window_view(videos[:, :, 0], digits.shape[1:], axis=(2, 3), writeable=True)
        video, frame = np.arange(len(numbers))[:, None], np.arange(self.frames)
        for digit in range(self.digits):
            at = (video, frame, places[:, :, digit, 0], places[:, :, digit, 1])
            own = digits[which[:, digit]][:, None]
            windows[at] = np.minimum(windows[at], 255 - own) + own  # the sum, at most 255
        return videos

    def paths(self, numbers: Integers, *, seed: int, stream: str, choices: int, side: int) -> tuple[Integers, Integers]:
        """Return which digits each video has, [n, digits], of so many, and the place of each in each frame, row and
        column of its upper left corner, [n, frames, digits, 2]. side: of a digit, pixels.
        """
        first, later = self._drawn(numbers, seed, stream)
        which = _whole(first[..., 0], 0, choices)
        edge = self.field - side - 1  # the last place, as published: one pixel before the field's last
        place = _whole(first[..., 1:3], 0, edge + 1)
        velocity = _whole(first[..., 3:5], -self.speed, self.speed + 1)
        places = np.empty((len(numbers), self.frames, self.digits, 2), np.int64)
        for frame in range(self.frames):
            for axis in (0, 1):
                new = later[:, frame, :, 2 * axis : 2 * axis + 2]
                velocity = self._turned(place, velocity, axis, edge, new)
            place = np.clip(place, 0, edge)
            places[:, frame] = place
            place = place + velocity
        return which, places

    def _turned(self, place: Integers, velocity: Integers, axis: int, edge: int, new: NDArray[np.uint64]) -> Integers:
        """Return the velocities [n, digits, 2] after those that have left the field along one axis have turned.

        new: numbers to draw from, [n, digits, 2]: for the component along the axis, and for the other one
        """
        before, beyond = place[..., axis] < 0, place[..., axis] > edge
        turned = velocity.copy()
        if self.deterministic:
            turned[..., axis] = np.where(before | beyond, -velocity[..., axis], velocity[..., axis])
            return turned
        away = _whole(new[..., 0], 1, self.speed + 1) * np.where(before, 1, -1)
        turned[..., axis] = np.where(before | beyond, away, velocity[..., axis])
        any_way = _whole(new[..., 1], -self.speed, self.speed + 1)
        turned[..., 1 - axis] = np.where(before | beyond, any_way, velocity[..., 1 - axis])
        return turned

    def _drawn(self, numbers: Integers, seed: int, stream: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return uniform 64-bit numbers of each video: [n, digits, 5] for its beginning and [n, frames, digits, 4].

        They are Philox's of key (seed, the stream's name) and counter (0, number), in its order, which is the same
        wherever it is computed.
        """
        key = np.array([seed, int.from_bytes(blake2b(stream.encode(), digest_size=8).digest(), "little")], np.uint64)
        count = self.digits * (_FIRST + self.frames * _STEP)
        raw = np.empty((len(numbers), count), np.uint64)
        for row, number in enumerate(numbers.tolist()):
            raw[row] = np.random.Philox(key=key, counter=np.array([0, number, 0, 0], np.uint64)).random_raw(count)
        first, later = np.split(raw, [self.digits * _FIRST], axis=1)
        return (
            first.reshape(len(numbers), self.digits, _FIRST),
            later.reshape(len(numbers), self.frames, self.digits, _STEP),
        )


def enlarged(digits: Bytes, side: int) -> Bytes:
    """Return images [n, height, width] at `side` pixels square, by Pillow's bilinear filter, as the published code."""
    resized = (Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR) for image in digits)
    return np.stack([np.asarray(image) for image in resized])


def _whole(raw: NDArray[np.uint64], low: int, high: int) -> Integers:
    """Return whole numbers in low .. high - 1 from uniform 64-bit ones: the upper half times the range, over 2^32.

    None is likelier than another by more than one part in 2^32 / (high - low).
    """
    return low + (((raw >> np.uint64(32)) * np.uint64(high - low)) >> np.uint64(32)).astype(np.int64)
