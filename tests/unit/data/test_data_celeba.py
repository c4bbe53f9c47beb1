"""CelebA: pictures in a zip or a folder, decoded once into the cache."""

from __future__ import annotations

import hashlib
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.data import writers
from tests.unit.data.publishing import Publish, load, resized
from vae_models.data.errors import DataCorrupt
from vae_models.data.places import Places
from vae_models.data.records import Dataset

SIZES = (5, 2, 3)
PARTS = [0, 2, 0, 1, 0, 2, 0, 1, 0, 2]  # of pictures 1..10


def _faces(width: int = 178, height: int = 218) -> list[bytes]:
    """Smooth pictures, each of its own colours."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.stack([np.sin(x / (9 + i)), np.cos(y / (7 + i)), np.sin((x + y) / 20 + i)], axis=2) for i in range(10)]
    pictures = [np.rint(127.5 + 100 * wave).astype(np.uint8) for wave in waves]
    return [writers.picture(picture, "jpeg", quality=95) for picture in pictures]


def _celeba(faces: list[bytes]) -> dict[str, bytes]:
    members = {f"img_align_celeba/{i:06d}.jpg": face for i, face in enumerate(faces, 1)}
    lines = [f"{i:06d}.jpg {part}\n" for i, part in enumerate(PARTS, 1)]
    return {"images": writers.zipped({"img_align_celeba/": b"", **members}), "partition": "".join(lines).encode()}


def _cropped(face: bytes) -> torch.Tensor:
    pixels = np.asarray(Image.open(io.BytesIO(face)))[39:179, 19:159]
    return resized(np.moveaxis(pixels, 2, 0)[None], 64)[0]


def _check_faces(dataset: Dataset, faces: list[bytes]) -> None:
    for part, split in enumerate((dataset.train, dataset.val, dataset.test)):
        expected = [_cropped(face) for face, of in zip(faces, PARTS, strict=True) if of == part]
        np.testing.assert_allclose(split.x, torch.stack(expected), atol=1.01)
        assert split.labels is None


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_celeba_is_decoded_once(form: str, publish: Publish, places: Places) -> None:
    faces = _faces()
    contents = _celeba(faces)
    publish("celeba", contents, sizes=SIZES)
    folder = places.data_dir / "celeba"  # type: ignore[operator]
    if form == "folder":
        (folder / "img_align_celeba.zip").unlink()
        (folder / "img_align_celeba").mkdir()
        for i, face in enumerate(faces, 1):
            (folder / "img_align_celeba" / f"{i:06d}.jpg").write_bytes(face)
    told: list[tuple[str, int, int | None]] = []
    dataset = load("celeba", places, progress=lambda at: told.append((at.name, at.done_bytes, at.total_bytes)))
    _check_faces(dataset, faces)
    assert told[-1] == ("celeba: decoding", 10 * 3 * 64 * 64, 10 * 3 * 64 * 64)
    if form == "zip":
        assert dataset.sources["img_align_celeba.zip"] == hashlib.sha256(contents["images"]).hexdigest()

    told.clear()
    again = load("celeba", replace(places, data_dir=None), progress=lambda at: told.append((at.name, 0, 0)))
    assert told == []
    assert torch.equal(again.train.x, dataset.train.x)
    assert again.sources == dataset.sources
    assert sorted(path.name for path in (places.cache_dir / "celeba").iterdir()) == [
        "celeba-64.json",
        "celeba-64.uint8",
        "celeba-64.uint8.lock",
    ]


def test_two_at_once_decode_celeba_once(publish: Publish, places: Places) -> None:
    publish("celeba", _celeba(_faces()), sizes=SIZES)
    ends: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        both = list(pool.map(lambda _: load("celeba", places, progress=lambda at: ends.append(at.name)), range(3)))
    assert torch.equal(both[0].test.x, both[1].test.x)
    assert ends == ["celeba: decoding"]


def _spoil_zip(folder: Path, cache: Path) -> None:
    content = (folder / "img_align_celeba.zip").read_bytes()
    (folder / "img_align_celeba.zip").write_bytes(content[:-9] + b"x" + content[-8:])


def _truncate_one(folder: Path, cache: Path) -> None:
    _unpack(folder)
    path = folder / "img_align_celeba" / "000004.jpg"
    path.write_bytes(path.read_bytes()[:2000])


def _remove_one(folder: Path, cache: Path) -> None:
    _unpack(folder)
    (folder / "img_align_celeba" / "000010.jpg").unlink()


def _another_size(folder: Path, cache: Path) -> None:
    _unpack(folder)
    (folder / "img_align_celeba" / "000001.jpg").write_bytes(_faces(64, 64)[0])


def _unpack(folder: Path) -> None:
    (folder / "img_align_celeba.zip").unlink()
    (folder / "img_align_celeba").mkdir()
    for i, face in enumerate(_faces(), 1):
        (folder / "img_align_celeba" / f"{i:06d}.jpg").write_bytes(face)


def test_fault_13a_an_archive_with_a_password_is_named(publish: Publish, places: Places) -> None:
    contents = _celeba(_faces())
    file = io.BytesIO(contents["images"])
    with zipfile.ZipFile(file, "a") as archive:
        for member in archive.infolist():
            member.flag_bits |= 1  # encrypted
        archive.writestr("readme", b"so that the directory is written again")
    publish("celeba", contents | {"images": file.getvalue()}, sizes=SIZES)
    with pytest.raises(DataCorrupt, match=r"cannot be unpacked at .*password required"):
        load("celeba", places)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_spoil_zip, r"img_align_celeba\.zip is truncated or altered: expected SHA-256 \w{64}, found \w{64}"),
        (_truncate_one, r"000004\.jpg is not a readable picture"),
        (_remove_one, r"img_align_celeba lacks 000010\.jpg"),
        (_another_size, r"000001\.jpg is 64x64 pixels, expected 178x218"),
    ],
)
def test_celeba_refuses_spoilt_pictures_and_caches_nothing(spoil, complaint, publish: Publish, places: Places) -> None:
    publish("celeba", _celeba(_faces()), sizes=SIZES)
    spoil(places.data_dir / "celeba", places.cache_dir / "celeba")  # type: ignore[operator]
    with pytest.raises(DataCorrupt, match=complaint):
        load("celeba", places)
    assert not list((places.cache_dir / "celeba").glob("*.json"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"1")


def _alter(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])


@pytest.mark.parametrize("spoil", [_cut, _lengthen, _alter, Path.unlink])
@pytest.mark.parametrize("name", ["celeba-64.uint8", "celeba-64.json"])
def test_a_spoilt_cache_is_refused_and_says_what_to_delete(spoil, name: str, publish: Publish, places: Places) -> None:
    publish("celeba", _celeba(_faces()), sizes=SIZES)
    whole = load("celeba", places)
    spoil(places.cache_dir / "celeba" / name)
    if name == "celeba-64.json" and spoil is Path.unlink:  # nothing is known of the file: decoded again
        assert torch.equal(load("celeba", places).train.x, whole.train.x)
        return
    with pytest.raises(DataCorrupt, match=r"delete .*celeba-64\.json, and the pictures are decoded again"):
        load("celeba", places)


def test_celeba_of_other_counts_is_refused(publish: Publish, places: Places) -> None:
    publish("celeba", _celeba(_faces()), sizes=(6, 2, 2))
    with pytest.raises(DataCorrupt, match=r"names \(5, 2, 3\) pictures .*, expected \(6, 2, 2\)"):
        load("celeba", places)


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_celeba_hq_takes_the_split_of_its_originals(form: str, publish: Publish, places: Places) -> None:
    pictures = [np.full((512, 512, 3), 20 * i, np.uint8) for i in range(10)]
    originals = [3, 1, 4, 10, 5, 9, 2, 6, 8, 7]  # picture i was made from this CelebA picture
    listing = "idx       orig_idx   orig_file\n" + "".join(
        f"{i}         {of - 1}       {of:06d}.jpg\n" for i, of in enumerate(originals)
    )
    members = {f"CelebAMask-HQ/CelebA-HQ-img/{i}.jpg": writers.picture(p, "jpeg") for i, p in enumerate(pictures)}
    members["CelebAMask-HQ/CelebA-HQ-to-CelebA-mapping.txt"] = listing.encode()
    members["CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/00000_hair.png"] = b"no picture"
    partition = _celeba(_faces())["partition"]
    if form == "zip":
        publish("celeba-hq", {"partition": partition, "images": writers.zipped(members)}, sizes=SIZES)
    else:
        publish("celeba-hq", {"partition": partition}, sizes=SIZES)
        for name, content in members.items():
            path = places.data_dir / name  # type: ignore[operator]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    dataset = load("celeba-hq", places)
    for part, split in enumerate((dataset.train, dataset.val, dataset.test)):
        expected = [20 * i for i, of in enumerate(originals) if PARTS[of - 1] == part]
        assert split.x.shape[1:] == (3, 128, 128)
        assert split.x.double().mean(dim=(1, 2, 3)).round().tolist() == expected
