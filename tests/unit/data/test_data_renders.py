"""VHP's chairs and faces: renders in an archive or its folder, and in a tensor's file, whatever lies there instead."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.data import writers
from tests.unit.data.publishing import CATALOGUE, Publish, load, resized
from vae_models.data.builders import renders
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.places import Places
from vae_models.recipes import catalogue

SIZES = (4, 1, 2)
MODELS = ("1028b32dc1873c2afe26a3ac360dbd4", "aa0")


def _chairs(side: int = 600) -> dict[str, np.ndarray]:
    y, x = np.mgrid[0:side, 0:side]
    pictures = {}
    for i in range(sum(SIZES)):
        wave = np.stack([np.sin(x / (19 + i)), np.cos(y / (17 + i)), np.sin((x + y) / 40 + i)], axis=2)
        name = f"{MODELS[i % 2]}/renders/image_{i:03d}_p020_t011_r096.png"
        pictures[name] = np.rint(127.5 + 100 * wave).astype(np.uint8)
    return pictures


def _archive(pictures: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        others = {"rendered_chairs/all_chair_names.mat": b"names", "rendered_chairs/aa0/renders.txt": b"text"}
        renders = {f"rendered_chairs/{name}": writers.picture(each, "png") for name, each in pictures.items()}
        for name, content in (renders | others).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_chairs_are_grey_small_and_in_a_fixed_order(form: str, publish: Publish, places: Places) -> None:
    pictures = _chairs()
    publish("chairs", {"renders": _archive(pictures)}, sizes=SIZES)
    tar = places.data_dir / "chairs/rendered_chairs.tar"  # type: ignore[operator]
    if form == "folder":
        for name, pixels in pictures.items():
            path = tar.with_suffix("") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(writers.picture(pixels, "png"))
        tar.unlink()
    dataset = load("chairs", places)
    order = np.random.RandomState(0).permutation(sum(SIZES))
    rgb = np.stack([pictures[sorted(pictures)[place]] for place in order]).astype(np.float64)
    grey = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    x = torch.cat([dataset.train.x, dataset.val.x, dataset.test.x])
    np.testing.assert_allclose(x, resized(grey[:, None], 64), atol=1.6)  # rounded three times
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == list(SIZES)
    tar.unlink(missing_ok=True)
    assert load("chairs", places).test.x.equal(dataset.test.x)  # from the cache


def test_chairs_of_another_size_or_number_are_named(publish: Publish, places: Places) -> None:
    publish("chairs", {"renders": _archive(_chairs(side=60))}, sizes=SIZES)
    with pytest.raises(DataCorrupt, match=r"image_\d+_p020_t011_r096\.png is 60x60 pixels, expected 600x600"):
        load("chairs", places)
    publish("chairs", {"renders": _archive(_chairs())}, sizes=(5, 1, 2))
    with pytest.raises(DataCorrupt, match="has 7 renders, expected 8"):
        load("chairs", places)


def _saved(tensor: object) -> bytes:
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()


FACTORS = (3, 2, 2, 2)


def _faces(places: Places, content: bytes) -> None:
    path = places.data_dir / "faces/basel_face_renders.pth"  # type: ignore[operator]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def test_faces_are_labelled_by_their_factors(publish: Publish, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renders, "FACTORS", FACTORS)
    publish("faces", {}, sizes=(16, 4, 4))
    tensor = torch.randint(0, 256, (*FACTORS, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    _faces(places, _saved(tensor))
    dataset = load("faces", places)
    seen = set()
    for split, size in zip((dataset.train, dataset.val, dataset.test), (16, 4, 4), strict=True):
        assert split.x.shape == (size, 1, 64, 64)
        for image, label in zip(split.x, split.labels.tolist(), strict=True):  # type: ignore[union-attr]
            assert image[0].equal(tensor[tuple(label)])
            seen.add(tuple(label))
    assert len(seen) == 24
    assert dataset.labels == CATALOGUE["faces"].facts.labels


class _Harm:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (Path.mkdir, (Path("harm"),))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            _saved(torch.zeros(2, 64, 64, dtype=torch.uint8)),
            r"torch.uint8 \[2, 64, 64\], expected torch.uint8 \[50, 21",
        ),
        (_saved(torch.zeros(3)), r"torch.float32 \[3\], expected torch.uint8"),
        (_saved({"x": torch.zeros(3)}), "dict, expected torch.uint8"),
        (_saved(_Harm()), "no file of a tensor"),
        (b"<html>", "no file of a tensor"),
        (b"", "no file of a tensor"),
    ],
    ids=["shape", "dtype", "dict", "code", "no file", "empty"],
)
def test_what_is_no_file_of_the_renders_is_named_and_runs_nothing(
    content: bytes, message: str, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _faces(places, content)
    with pytest.raises(DataCorrupt, match=message):
        load("faces", places)
    assert not (tmp_path / "harm").exists()


def test_faces_are_not_downloaded_and_say_where_their_licence_is(places: Places) -> None:
    with pytest.raises(DataMissing) as missing:
        load("faces", places)
    message = str(missing.value)
    assert "faces: basel_face_renders.pth is missing" in message
    assert "no address of this one file is published" in message
    assert "https://faces.dmi.unibas.ch/bfm/" in message


@pytest.mark.parametrize("name", ["faces/vhp-rewo", "faces/iwae", "chairs/vhp-rewo", "chairs/iwae"])
def test_recipes_have_table_3s_settings(name: str) -> None:
    config = catalogue()[name].build()
    assert config.data.facts.shape == (1, 64, 64)
    assert (config.model.kind, config.model.backbone.kind, config.model.likelihood.kind) == (
        "vae",
        "vhp-conv",
        "bernoulli",
    )
    assert config.model.latents() == {"z": (32,)}
    assert config.optimizer.lr == 5e-4
    if name.endswith("rewo"):
        assert (config.beta.kind, config.beta.kappa, config.beta.nu) == ("rewo", 0.2, 1.0)
        prior = config.model.prior
        assert (prior.kind, prior.importance_samples, prior.hidden, prior.gated) == ("vhp", 16, (256, 256), False)
    else:
        assert (config.objective.kind, config.objective.samples) == ("iwae", 16)
