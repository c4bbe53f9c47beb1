"""Noise as a function of (seed, stream, step): nothing here has a state, so nothing has to be saved or synchronized.

On the CPU a draw comes from numpy's Philox4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a
counter-based generator: key = (seed, hash of the stream's name), counter = (0, step, 0, 0), so that streams and steps
never overlap (2^64 blocks of 256 bits lie between two steps). On another device it comes from that device's
`torch.Generator`, seeded by a 64-bit hash of the same three. The two differ from each other, and CUDA's may differ
between models of GPU; on one kind of device the same arguments give the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from vae_models.records import NoiseSpec

NOISE_BLOCK = 64  # data whose noise is drawn together where each datum has its own
_NUMPY_DTYPES: dict[torch.dtype, Literal["float32", "float64"]] = {torch.float32: "float32", torch.float64: "float64"}


@lru_cache(maxsize=256)
def _stream_number(stream: str) -> int:
    return int.from_bytes(blake2b(stream.encode(), digest_size=8).digest(), "little")


class _Generator(threading.local):
    """One generator for each thread, whose whole state is set for every draw: a new one asks the system for entropy."""

    def __init__(self) -> None:
        self._bits = np.random.Philox()
        self._draws = np.random.Generator(self._bits)

    def at(self, key: tuple[int, int], counter: tuple[int, int, int, int]) -> np.random.Generator:
        """Return the generator as `Philox(key=key, counter=counter)` begins; good until the next call."""
        empty = {"buffer": (0, 0, 0, 0), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
        state = {"bit_generator": "Philox", "state": {"counter": counter, "key": key}, **empty}
        self._bits.state = cast(Any, state)  # numpy takes sequences, where its types name arrays
        return self._draws


_generator = _Generator()


def _philox(seed: int, stream: str, step: int) -> np.random.Generator:
    return _generator.at((seed, _stream_number(stream)), (0, step, 0, 0))


def _mixed_seed(seed: int, stream: str, step: int) -> int:
    text = f"{seed}/{step}/{stream}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def draw(
    spec: NoiseSpec, batch: int, *, seed: int, step: int, stream: str, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Draw noise for the **global** batch, [batch, *spec.shape]:
    N(0, 1) or uniform on [0, 1); workers slice their rows.

    The same (spec, batch, seed, step, stream, dtype, kind of device) gives the same bits, whatever was drawn before.
    """
    shape = (batch, *spec.shape)
    if device.type == "cpu" and dtype in _NUMPY_DTYPES:
        generator = _philox(seed, stream, step)
        if spec.kind == "normal":
            return torch.from_numpy(generator.standard_normal(shape, dtype=_NUMPY_DTYPES[dtype]))
        return torch.from_numpy(generator.random(shape, dtype=_NUMPY_DTYPES[dtype]))
    source = torch.Generator(device).manual_seed(_mixed_seed(seed, stream, step))
    fill = torch.randn if spec.kind == "normal" else torch.rand
    return fill(shape, generator=source, device=device, dtype=dtype)


def draw_rows(
    specs: Mapping[str, NoiseSpec],
    count: int,
    *,
    first: int = 0,
    seed: int,
    stream: str,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Draw noise of the data, or samples, first .. first + count - 1, [count, *shape] by name.

    Each one's depends on the seed, the stream, its name and its own number alone: however the data are cut into
    batches, and whoever computes them. Blocks of `NOISE_BLOCK` data are drawn together.
    """
    blocks = range(first // NOISE_BLOCK, -(-(first + count) // NOISE_BLOCK))
    skip = first - blocks.start * NOISE_BLOCK
    drawn = {}
    for name, spec in specs.items():
        whole = [
            draw(spec, NOISE_BLOCK, seed=seed, step=block, stream=f"{stream}/{name}", device=device, dtype=dtype)
            for block in blocks
        ] or [torch.empty((0, *spec.shape), device=device, dtype=dtype)]
        drawn[name] = torch.cat(whole)[skip : skip + count]
    return drawn


def permutation(n: int, *, seed: int, epoch: int, stream: str = "order") -> Tensor:
    """Return a uniformly random order of 0 .. n-1, int64 [n], on the CPU: the same on every device and worker."""
    return torch.from_numpy(_philox(seed, stream, epoch).permutation(n))
