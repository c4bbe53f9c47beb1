"""Features of a split and of samples, on all workers; those of data are kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from torch import Tensor

from vae_models import random
from vae_models.collectives import all_gather
from vae_models.data.places import Places
from vae_models.evaluation.features.extractor import Extractor, as_levels
from vae_models.evaluation.subject import Inapplicable, Rows, Subject
from vae_models.metrics.frechet import Moments
from vae_models.records import NoiseSpec

VERSION = 1  # of what is kept
HASHED = 1024  # rows of a split that are read at a time


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What samples are compared with.

    moments:  of all data of the split that are evaluated
    features: of at most as many as were asked for, [rows, size], in random order
    """

    moments: Moments
    features: Tensor


def reference(subject: Subject, extractor: Extractor, rows: int, *, places: Places | None = None) -> Reference:
    """Return the features of the plan's split: from the cache where every worker has them there, else computed.

    They are found by a digest of the data themselves, of what makes x of them, and of the extractor. Any number of
    processes may ask at once; a file that is damaged is made anew. Raise Inapplicable where x is not finite.
    """
    path = (
        (places or Places.from_environment()).cache_dir / "features" / f"{_key(subject, extractor, rows)}.safetensors"
    )
    kept = _read(path)
    everywhere = all_gather(torch.tensor(int(kept is not None), device=subject.device)).min()
    if kept is not None and bool(everywhere):
        return kept
    made = _computed(subject, extractor, rows)
    with suppress(OSError):  # a cache that is full, or may only be read
        _write(path, made)
    return made


def of_data(
    subject: Subject,
    extractor: Extractor,
    image: Callable[[Rows], Tensor],
    *,
    what: str,
    noise: Mapping[str, NoiseSpec] | None = None,
    stream: str = "",
) -> Tensor:
    """Return features of an image for each datum of the split, [n, size]. noise, stream: as of `Subject.map`."""

    def features(rows: Rows) -> Mapping[str, Tensor]:
        return features_of(extractor, image(rows))

    size = batch_size(subject, extractor)
    return checked(subject.map(features, what=what, noise=noise, stream=stream, batch_size=size), what)


def of_images(subject: Subject, extractor: Extractor, images: Tensor, *, what: str) -> Tensor:
    """Return features of images that every worker has, [n, size]: each worker computes its share."""

    def features(start: int, end: int) -> Mapping[str, Tensor]:
        return features_of(extractor, images[start:end].to(subject.device))

    size = batch_size(subject, extractor)
    return checked(subject.spread(features, len(images), size=size, what=what), what)


def features_of(extractor: Extractor, images: Tensor) -> Mapping[str, Tensor]:
    """Return the features of images on the extractor's device, and which images are finite: `checked` takes both."""
    return {"features": extractor(as_levels(images)).float(), "finite": images.flatten(1).isfinite().all(1)}


def checked(extracted: Mapping[str, Tensor], what: str) -> Tensor:
    """Return the features of all workers' images. Raise Inapplicable, on every worker, where one is not finite."""
    images, total = int((~extracted["finite"]).sum()), len(extracted["finite"])
    if images:
        raise Inapplicable(f"{what}: {images} of {total} images are not finite, so they have no features")
    rows = int((~extracted["features"].isfinite().all(1)).sum())
    if rows:
        raise Inapplicable(f"{what}: the extractor makes numbers that are not finite of {rows} of {total} images")
    return extracted["features"]


def batch_size(subject: Subject, extractor: Extractor) -> int:
    """Return how many images the extractor is given at a time: what the plan's memory has room for."""
    return max(1, min(subject.plan.batch_size, subject.plan.memory_mib * 2**20 // extractor.bytes_per_image))


def _computed(subject: Subject, extractor: Extractor, rows: int) -> Reference:
    features = of_data(subject, extractor, lambda rows: rows.x, what="features of the data")
    order = random.permutation(len(features), seed=0, epoch=0, stream="features/reference")
    return Reference(moments=Moments.of(features), features=features[order[:rows]].contiguous())


def _key(subject: Subject, extractor: Extractor, rows: int) -> str:
    plan, config = subject.plan, subject.config
    split = getattr(subject.dataset, plan.split)
    digest = hashlib.sha256()
    for start in range(0, count := subject.count(), HASHED):
        stored = split.rows[start : min(start + HASHED, count)].contiguous()
        digest.update(f"{stored.dtype}{list(stored.shape)}".encode() + stored.cpu().numpy().tobytes())
    made_by = {
        "version": VERSION,
        "data": digest.hexdigest(),
        "support": config.data.support,
        "binarize": config.data.binarize,
        "seed": plan.seed if config.data.binarize == "dynamic" else None,
        "dtype": config.dtype,
        "extractor": extractor.key,
        "rows": min(rows, count),
        "device": subject.device.type,  # another one rounds in another way
    }
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()


def _write(path: Path, made: Reference) -> None:
    from safetensors.torch import save

    tensors = {
        "count": torch.tensor(made.moments.count),
        "mean": made.moments.mean,
        "scatter": made.moments.scatter,
        "features": made.features,
    }
    tensors["sha256"] = _sum(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")  # of this process alone, on whatever machine
    try:
        part.write_bytes(save({name: each.contiguous() for name, each in tensors.items()}))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> Reference | None:
    """Return what `_write` wrote; None where there is nothing, or not what was written.

    It is read whole at once: another process may put another file in its place meanwhile.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    kept_sum = tensors.pop("sha256", None)
    if set(tensors) != {"count", "mean", "scatter", "features"} or kept_sum is None:
        return None
    if kept_sum.tolist() != _sum(tensors).tolist():
        return None
    moments = Moments(count=int(tensors["count"]), mean=tensors["mean"], scatter=tensors["scatter"])
    return Reference(moments=moments, features=tensors["features"])


def _sum(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return SHA-256 over the tensors with their names, types and shapes, as 32 bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
