"""Pictures as people have them: every mode of PNG, the other formats, folders, archives, lists."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.ingest.cases import Good, Make, all_labels, chunk, everything, raw_png
from vae_models.data.ingest import Options
from vae_models.data.stored import StoredSet

HEIGHT, WIDTH = 4, 6
GREY = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 10).astype(np.uint8)  # 10 * (6 row + column)
COLOUR = np.stack([GREY, GREY + 5, 255 - GREY], axis=-1)
FLAT = np.full((16, 16, 3), (200, 100, 50), np.uint8)


def thrice(suffix: str, save: Callable[[Path], Any]) -> Make:
    """Three files of the same picture, so that every split has it."""

    def make(folder: Path) -> None:
        for name in "abc":
            save(folder / f"{name}{suffix}")

    return make


def saved(array: np.ndarray[Any, Any], suffix: str = ".png", mode: str | None = None, **options: Any) -> Make:
    image = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    return thrice(suffix, lambda path: image.save(path, **options))


def palette(colours: list[int], **options: Any) -> Make:
    image = Image.fromarray((GREY % 30 // 10).astype(np.uint8), "L")
    image.putpalette(colours)
    return thrice(".png", lambda path: image.save(path, **options))


def with_alpha(mode: str) -> Make:
    """Opaque in the first row, half transparent in the second, transparent below."""
    alpha = np.repeat(np.array([255, 128, 0, 0], np.uint8)[:, None], WIDTH, axis=1)
    base = GREY[..., None] if mode == "LA" else COLOUR
    return thrice(".png", Image.fromarray(np.concatenate([base, alpha[..., None]], -1), mode).save)


def sixteen_bit_colour(folder: Path) -> None:
    values = (COLOUR.astype(np.uint16) * 256 + 77).astype(">u2")
    for name in "abc":
        raw_png(folder / f"{name}.png", WIDTH, HEIGHT, 16, 2, values.tobytes())


def two_bit_grey(folder: Path) -> None:
    for name in "abc":
        raw_png(folder / f"{name}.png", 4, 1, 2, 0, bytes([0b00011011]))


def turned(suffix: str, orientation: int, **options: Any) -> Make:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 250  # bright on the left
    return thrice(suffix, lambda path: Image.fromarray(picture).save(path, exif=exif, **options))


def exif_chunk(folder: Path) -> None:
    """PNG's own block of EXIF: turned by 180 degrees."""
    block = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0")
    for name in "abc":
        raw_png(folder / f"{name}.png", WIDTH, HEIGHT, 8, 0, GREY.tobytes(), block)


def animated(suffix: str) -> Make:
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    return thrice(suffix, lambda path: first.save(path, save_all=True, append_images=[second], duration=100))


def cmyk_tiff(folder: Path) -> None:
    for name in "abc":
        Image.new("CMYK", (3, 2), (255, 0, 0, 0)).save(folder / f"{name}.tif")


def netpbm(folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.pgm").write_bytes(b"P5\n# by hand\n6 4\n255\n" + GREY.tobytes())


def grey_and_colour(folder: Path) -> None:
    for at in range(3):
        Image.fromarray(GREY).save(folder / f"grey{at}.png")
    for at in range(3):
        Image.fromarray(COLOUR).save(folder / f"colour{at}.png")


def one_late_colour(folder: Path) -> None:
    """Grey wherever one looks first; one in colour among 200."""
    for at in range(200):
        Image.fromarray(GREY).save(folder / f"{at:03}.png")
    Image.fromarray(COLOUR).save(folder / "155.png")


def of_two_sizes(folder: Path) -> None:
    for name, size in (("a", (20, 10)), ("b", (10, 20)), ("c", (40, 40))):
        Image.new("RGB", size, (10, 20, 30)).save(folder / f"{name}.png")


def halves(folder: Path) -> None:
    """Twice as wide as high: a quarter black, half white, a quarter black."""
    picture = np.zeros((10, 20), np.uint8)
    picture[:, 5:15] = 255
    for name in "abc":
        Image.fromarray(picture).save(folder / f"{name}.png")


def classes(folder: Path) -> None:
    for number in (1, 2, 10):
        (folder / f"class {number}" / "deeper").mkdir(parents=True)
        for at in range(4):
            Image.fromarray(np.full((2, 2), 10 * number, np.uint8)).save(folder / f"class {number}/deeper/{at}.png")


def numbered(folder: Path, names: list[str]) -> None:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2), at, np.uint8)).save(folder / name)


def split_folders(*names: str) -> Make:
    def make(folder: Path) -> None:
        numbered(folder, [f"{name}/{label}/{at}.png" for name in names for label in ("cat", "dog") for at in range(2)])

    return make


def with_list(content: bytes) -> Make:
    def make(folder: Path) -> Path:
        numbered(folder, [f"pictures/photo {at}.png" for at in range(4)] + ["pictures/é, two.png"])
        (folder / "list.csv").write_bytes(content)
        return folder / "pictures"

    return make


def tangled(folder: Path) -> Path:
    """Blanks, Unicode in both forms, a linked file, a linked folder, a link that leads back, hidden things."""
    numbered(folder, ["pictures/ä ö.png", "pictures/e\u0301.png", "elsewhere/linked.png", "elsewhere/folder/in it.png"])
    pictures = folder / "pictures"
    os.symlink(folder / "elsewhere" / "linked.png", pictures / "link.png")
    os.symlink(folder / "elsewhere" / "folder", pictures / "linked folder")
    os.symlink(pictures, pictures / "loop")
    numbered(pictures, [".hidden.png", ".cache/x.png", "__MACOSX/._a.png"])
    (pictures / "Thumbs.db").write_bytes(b"x")
    (pictures / "README").write_text("not a picture")
    os.mkfifo(pictures / "pipe.png")
    return pictures


def without_endings(folder: Path) -> None:
    for name in ("IMG_1", "IMG_2", "IMG_3"):
        with (folder / name).open("wb") as file:
            Image.fromarray(GREY).save(file, "PNG")
    (folder / "LICENSE").write_text("no picture")


def broken_ones(folder: Path) -> None:
    numbered(folder, [f"{at:02}.png" for at in range(20)])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "00.png")  # another size, if it could be read
    for name, cut in (("00.png", 45), ("05.png", 40), ("11.png", 0)):
        (folder / name).write_bytes((folder / name).read_bytes()[:cut])


def packed(name: str, *command: str) -> Make:
    """An archive made by the command of the system, of a folder with a folder in it."""

    def make(folder: Path) -> Path:
        numbered(folder / "my data", [f"set/{label}/{at}.png" for label in ("cat", "dog") for at in range(3)])
        numbered(folder / "my data", ["__MACOSX/set/._0.png", "set/.DS_Store.png"])
        subprocess.run([*command, f"../{name}", "."], cwd=folder / "my data", check=True, capture_output=True)
        return folder / name

    return make


def magick(suffix: str, *arguments: str) -> Make:
    """Pictures that ImageMagick makes; skips where it is not installed."""

    def make(folder: Path) -> None:
        if (program := _imagemagick()) is None:
            pytest.skip("ImageMagick is not installed")
        for name in "abc":
            subprocess.run([program, *arguments, str(folder / f"{name}{suffix}")], check=True)

    return make


@cache
def _imagemagick() -> str | None:
    """The program that makes pictures, which versions and distributions call differently; others are called so too."""
    for name in ("magick", "convert-im6.q16", "convert"):
        if (program := shutil.which(name)) is not None:
            said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stdout
            if said.startswith("Version: ImageMagick"):
                return program
    return None


def _labels_follow_values(data: StoredSet) -> None:
    np.testing.assert_array_equal(everything(data)[:, 0, 0, 0], np.array([10, 20, 100])[all_labels(data)])


def _values(split: str, *expected: int) -> Callable[[StoredSet], None]:
    def check(data: StoredSet) -> None:
        assert sorted(data.x(split)[:][:, 0, 0, 0]) == sorted(expected)  # type: ignore[arg-type]

    return check


def _left_out(data: StoredSet) -> None:
    assert [name for name, _ in data.manifest.source["left_out"]] == ["00.png", "05.png", "11.png"]
    assert sorted(everything(data)[:, 0, 0, 0]) == sorted({*range(20)} - {0, 5, 11})


def _ignored(data: StoredSet) -> None:
    assert data.manifest.source["ignored"] == {
        "__macosx": 1, "hidden": 2, "links that lead back": 1, "no regular file": 1, "not pictures": 1, "thumbs.db": 1
    }  # fmt: skip
    assert sorted(everything(data)[:, 0, 0, 0]) == [0, 1, 2, 3]


def _same_for_all(data: StoredSet) -> None:
    values = everything(data)
    assert (values[:, 0] == values[:, 1]).all(axis=(1, 2)).sum() == 3
    assert sorted(set(values[:, :, 1, 1].ravel().tolist())) == [70, 75, 185]


WHITE_HALF = round(128 / 255 * 60 + 127 / 255 * 255)  # the first of the second row, GREY's 60, on white
GREY_PIXELS = {(0, 0, 0): 0, (0, 1, 0): 60, (0, 3, 5): 230}
COLOUR_PIXELS = {(0, 1, 1): 70, (1, 1, 1): 75, (2, 1, 1): 185, (2, 0, 0): 255}
FLAT_PIXELS = {(0, 8, 8): 200, (1, 8, 8): 100, (2, 8, 8): 50}
G, C = (1, HEIGHT, WIDTH), (3, HEIGHT, WIDTH)
LIST = (
    "\ufeffname,split\r\nphoto 0.png,train\r\nphoto 1.png,train\r\nphoto 2.png,val\r\n./photo 3.png,TEST\r\n"
    "é, two.png,train\r\n"
)

CASES = [
    Good(name="png grey", make=saved(GREY), shape=G, pixels=GREY_PIXELS),
    Good(name="png 1 bit", make=saved(GREY > 100), shape=G, support="bits", pixels={(0, 0, 0): 0, (0, 3, 5): 255}),
    Good(name="png 2 bits", make=two_bit_grey, shape=(1, 1, 4), pixels={(0, 0, 1): 85, (0, 0, 3): 255}),
    Good(name="png colour", make=saved(COLOUR), shape=C, pixels=COLOUR_PIXELS),
    Good(
        name="png palette",
        make=palette([255, 0, 0, 0, 255, 0, 1, 2, 3]),
        shape=C,
        pixels={(0, 0, 0): 255, (1, 0, 1): 255, (2, 0, 2): 3},
        notes=("palettes to their colours: 3 files",),
    ),
    Good(name="png grey palette", make=palette([7, 7, 7, 9, 9, 9, 11, 11, 11]), shape=G, pixels={(0, 0, 1): 9}),
    Good(
        name="png palette with a transparent entry",
        make=palette([255, 0, 0, 0, 255, 0, 1, 2, 3], transparency=0),
        shape=C,
        pixels={(0, 0, 0): 255, (1, 0, 0): 255, (2, 0, 0): 255, (0, 0, 1): 0},
    ),
    Good(
        name="png grey with alpha",
        make=with_alpha("LA"),
        shape=G,
        pixels={(0, 0, 1): 10, (0, 1, 0): WHITE_HALF, (0, 3, 0): 255},
        tolerance=1,
        notes=("transparent pixels composited onto white: 3 files",),
    ),
    Good(name="png rgba on white", make=with_alpha("RGBA"), shape=C, pixels={(1, 0, 1): 15, (2, 3, 0): 255}),
    Good(
        name="png rgba on black",
        make=with_alpha("RGBA"),
        options=Options(background=(0, 0, 0)),
        shape=C,
        pixels={(1, 0, 1): 15, (2, 3, 0): 0},
    ),
    Good(
        name="png 16 bits",
        make=saved(GREY.astype(np.uint16) * 257 + 128),
        shape=G,
        pixels={(0, 1, 0): 60, (0, 3, 5): 230},
        notes=("16 bits to 8: round(k / 257): 3 files",),
    ),
    Good(name="png 16 bits rounds up", make=saved(GREY.astype(np.uint16) * 257 + 129), shape=G, pixels={(0, 1, 0): 61}),
    Good(
        name="png 16 bits of colour",
        make=sixteen_bit_colour,
        shape=C,
        pixels=COLOUR_PIXELS,
        notes=("16 bits of colour to 8: the high byte: 3 files",),
    ),
    Good(name="png turned by its eXIf", make=exif_chunk, shape=G, pixels={(0, 0, 0): 230, (0, 3, 5): 0}),
    Good(name="jpeg grey", make=saved(FLAT[..., 0], ".jpg"), shape=(1, 16, 16), pixels={(0, 8, 8): 200}, tolerance=2),
    Good(name="jpeg", make=saved(FLAT, ".jpeg"), shape=(3, 16, 16), pixels=FLAT_PIXELS, tolerance=3),
    Good(
        name="jpeg cmyk",
        make=saved(FLAT, ".jpg", "CMYK"),
        shape=(3, 16, 16),
        pixels=FLAT_PIXELS,
        tolerance=4,
        notes=("CMYK to RGB without a colour profile: 3 files",),
    ),
    Good(
        name="jpeg turned",
        make=turned(".JPG", 6),
        shape=(3, 32, 16),
        pixels={(0, 4, 8): 250, (0, 28, 8): 0},
        tolerance=3,
        notes=("turned as EXIF says: 3 files",),
    ),
    Good(name="webp", make=saved(COLOUR, ".webp", lossless=True), shape=C, pixels=COLOUR_PIXELS),
    Good(name="webp turned", make=turned(".webp", 3, lossless=True), shape=(3, 16, 32), pixels={(0, 8, 31): 250}),
    Good(name="webp animated", make=animated(".webp"), shape=C, notes=("several frames: the first is taken: 3 files",)),
    Good(name="bmp", make=saved(COLOUR, ".bmp"), shape=C, pixels=COLOUR_PIXELS),
    Good(name="tiff lzw", make=saved(COLOUR, ".tiff", compression="tiff_lzw"), shape=C, pixels=COLOUR_PIXELS),
    Good(name="tiff 16 bits", make=saved(GREY.astype(np.uint16) * 257, ".tif"), shape=G, pixels=GREY_PIXELS),
    Good(name="tiff cmyk", make=cmyk_tiff, shape=(3, 2, 3), pixels={(0, 0, 0): 0, (1, 0, 0): 255}),
    Good(name="gif of two frames", make=animated(".gif"), shape=G, pixels=GREY_PIXELS, notes=("several frames",)),
    Good(name="pgm", make=netpbm, shape=G, pixels=GREY_PIXELS),
    Good(
        name="imagemagick interlaced png",
        make=magick(".png", "-size", "1x256", "gradient:white-black", "-interlace", "PNG", "-depth", "8"),
        shape=(1, 256, 1),
        pixels={(0, 0, 0): 255, (0, 100, 0): 155, (0, 255, 0): 0},
    ),
    Good(
        name="imagemagick palette png",
        make=magick(".png", "-size", "4x4", "xc:red", "-fill", "blue", "-draw", "point 1,2", "-type", "Palette"),
        shape=(3, 4, 4),
        pixels={(0, 0, 0): 255, (2, 0, 0): 0, (2, 2, 1): 255},
    ),
    Good(
        name="imagemagick 16 bit png",
        make=magick(".png", "-size", "2x2", "xc:gray(50%)", "-depth", "16", "-define", "png:bit-depth=16"),
        shape=(1, 2, 2),
        pixels={(0, 0, 0): 128},
        tolerance=1,
    ),
    Good(
        name="imagemagick cmyk jpeg",
        make=magick(".jpg", "-size", "16x16", "xc:cyan", "-colorspace", "CMYK"),
        shape=(3, 16, 16),
        pixels={(0, 8, 8): 0, (1, 8, 8): 255},
        tolerance=4,
    ),
    Good(
        name="imagemagick tiff",
        make=magick(".tif", "-size", "4x4", "xc:#102030", "-compress", "Zip"),
        shape=(3, 4, 4),
        pixels={(0, 0, 0): 16, (1, 0, 0): 32, (2, 3, 3): 48},
    ),
    Good(name="grey and colour", make=grey_and_colour, shape=C, sizes=(4, 1, 1), check=_same_for_all),
    Good(name="one in colour of 200", make=one_late_colour, shape=C, sizes=(160, 20, 20)),
    Good(name="--grey", make=saved(FLAT), options=Options(grey=True), shape=(1, 16, 16), pixels={(0, 8, 8): 124}),
    Good(name="--size", make=of_two_sizes, options=Options(size=(8, 8)), shape=(3, 8, 8), pixels={(1, 4, 4): 20}),
    Good(name="--size cuts", make=halves, options=Options(size=(10, 10)), shape=(1, 10, 10), pixels={(0, 5, 0): 255}),
    Good(
        name="--size --stretch",
        make=halves,
        options=Options(size=(10, 10), stretch=True),
        shape=(1, 10, 10),
        pixels={(0, 5, 0): 0, (0, 5, 5): 255},
    ),
    Good(name="--crop", make=saved(GREY), options=Options(crop=(2, 2)), shape=(1, 2, 2), pixels={(0, 0, 0): 80}),
    Good(
        name="folders are labels",
        make=classes,
        shape=(1, 2, 2),
        sizes=(10, 1, 1),
        classes=("class 1", "class 2", "class 10"),
        check=_labels_follow_values,
    ),
    Good(
        name="folders of splits",
        make=split_folders("train", "Validation", "test"),
        shape=(1, 2, 2),
        sizes=(4, 4, 4),
        classes=("cat", "dog"),
        check=_values("val", 4, 5, 6, 7),
    ),
    Good(
        name="no folder of test",
        make=split_folders("train", "val"),
        shape=(1, 2, 2),
        sizes=(3, 4, 1),
        classes=("cat", "dog"),
        notes=("test taken from train: 1 each",),
    ),
    Good(
        name="--split-file",
        make=with_list(LIST.encode()),
        options=Options(split_file=Path("list.csv")),
        shape=(1, 2, 2),
        sizes=(3, 1, 1),
        check=_values("train", 0, 1, 4),
    ),
    Good(
        name="--split-file by number",
        make=with_list("".join(f"photo {at}.png {at % 3}\n" for at in range(4)).encode() + "é, two.png 0\n".encode()),
        options=Options(split_file=Path("list.csv")),
        shape=(1, 2, 2),
        sizes=(3, 1, 1),
    ),
    Good(name="links and odd names", make=tangled, shape=(1, 2, 2), sizes=(2, 1, 1), check=_ignored),
    Good(name="names without endings", make=without_endings, shape=G, pixels=GREY_PIXELS),
    Good(
        name="--skip-broken",
        make=broken_ones,
        options=Options(skip_broken=True),
        shape=(1, 2, 2),
        sizes=(14, 1, 2),
        check=_left_out,
    ),
    *(
        Good(name=name, make=packed(name, *command), shape=(1, 2, 2), sizes=(4, 1, 1), classes=("cat", "dog"))
        for name, command in {
            "photos.zip": ("zip", "-rq"),
            "stored.zip": ("zip", "-rq0"),
            "photos.tar": ("tar", "-cf"),
            "photos.tar.gz": ("tar", "-czf"),
            "photos.tgz": ("tar", "-czf"),
            "photos.tar.bz2": ("tar", "-cjf"),
            "photos.tar.xz": ("tar", "-cJf"),
        }.items()
    ),
]
