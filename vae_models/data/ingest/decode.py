"""One picture: from the bytes of its file to uint8 [channels, height, width], and what was changed on the way.

    1 bit          0 and 255
    grey           as it is; with alpha composited onto the background
    palette        its colours; grey where every entry of the palette is
    16 bits        round(k / 257) to 8 bits; of colour PNGs the high byte, which is what Pillow reads
    CMYK, YCbCr    to RGB by Pillow's formula, without a colour profile
    alpha          composited onto the background (white by default)
    several frames the first
    orientation    of EXIF is applied

Order: orientation, crop from the middle, size (bilinear with antialiasing), grey.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vae_models.data.ingest.files import Unreadable

MOST_PIXELS = 89_478_485  # Pillow's own limit, here an error: 256 MiB in RGB
MOST_SIDE = 65_535  # pixels, as in JPEG: what Pillow reads by lines takes time as the square of a line's length
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_SUFFIXES = ".png .jpg .jpeg .jpe .jfif .webp .bmp .dib .tif .tiff .gif .pbm .pgm .ppm .pnm"
SUFFIXES = frozenset(_SUFFIXES.split())
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_ROTATED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange height and width
_ORIENTATION = 0x0112
_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
_DRAFT = 2  # a JPEG may be decoded at a reduced scale that is this many times what is wanted, or more

Kind = Literal["bit", "grey", "colour"]
Pixels = NDArray[np.uint8]

warnings.filterwarnings("ignore", module=r"PIL\.")  # the limit here is an error, and what is broken is named


@dataclass(frozen=True, kw_only=True)
class Look:
    """How every picture of a set is to look. (height, width); `size` None: as it is."""

    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    grey: bool
    stretch: bool
    background: tuple[int, int, int]


class Picture(NamedTuple):
    """A decoded picture: grey as [height, width], colour as [height, width, 3]."""

    pixels: Pixels
    kind: Kind


@dataclass
class Met:
    """Counts of pictures: how many had which mode, and how many were changed in which way."""

    modes: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Met) -> Met:
        self.modes += other.modes
        self.changes += other.changes
        return self


class Opened:
    """A picture whose head was read. `height` and `width` are those after its orientation."""

    def __init__(self, file: bytes) -> None:
        """Open a picture. Raise `Unreadable` where the bytes are none, or one of too many pixels."""
        try:
            self.image: Image.Image = Image.open(io.BytesIO(file), formats=FORMATS)
        except Image.DecompressionBombError:
            raise Unreadable(f"it has more than {MOST_PIXELS:,} pixels") from None
        except (OSError, SyntaxError, ValueError, TypeError, OverflowError, KeyError, EOFError) as error:
            raise Unreadable(_why(error, file)) from error
        width, height = self.image.size
        if max(width, height) > MOST_SIDE:
            raise Unreadable(f"it has {height}x{width} pixels; at most {MOST_SIDE:,} are taken on a side")
        if width * height > MOST_PIXELS:
            raise Unreadable(f"it has {width * height:,} pixels ({height}x{width}); at most {MOST_PIXELS:,} are taken")
        if self.image.format in ("JPEG", "MPO", "TIFF", "WEBP") and self._orientation() in _ROTATED:
            width, height = height, width
        self.height, self.width = height, width

    def _orientation(self) -> int:
        try:
            return int(self.image.getexif().get(_ORIENTATION, 1))
        except Exception:  # whatever a broken block makes of Pillow: it is then as it lies
            return 1

    def decode(self, look: Look, met: Met) -> Picture:
        """Return the pixels, arranged as `look` specifies. Raise `Unreadable`."""
        try:
            return _decoded(self.image, look, met)
        except Unreadable:
            raise
        except Exception as error:  # Pillow's plugins raise of everything on altered bytes
            raise Unreadable(_why(error, b"picture")) from error


def _why(error: Exception, file: bytes) -> str:
    if not file:
        return "it is empty"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "cannot identify" in text:
        return "it is no picture of a format that is read here"
    return text.removeprefix("image file is ").replace("<_io.BytesIO object", "<file")


def is_picture(name: str) -> bool:
    """Return whether a file's name is a picture's."""
    dot = name.rfind(".")
    return dot > name.rfind("/") and name[dot:].lower() in SUFFIXES


def looks_like_picture(head: bytes) -> bool:
    """Return whether a file begins as a picture does: for names without an ending."""
    return head.startswith(_MAGIC)


def _decoded(image: Image.Image, look: Look, met: Met) -> Picture:
    mode = image.mode
    met.modes[mode] += 1
    if look.size is not None and look.crop is None and image.format in ("JPEG", "MPO"):
        _reduce(image, look.size)
    if getattr(image, "is_animated", False):
        met.changes["frames"] += 1
    if mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        met.changes["colour of 16 bits"] += 1
    image.load()
    if image.format in ("TIFF", "MPO") or any(key in image.info for key in _EXIF):
        image = _upright(image, met)
    image, kind = _plain(image, look, met)
    return arranged(image, kind, look, met)


def _reduce(image: Image.Image, size: tuple[int, int]) -> None:
    """Let libjpeg skip the pixels that would be averaged away."""
    least = _DRAFT * max(size)
    if min(image.size) >= 2 * least:
        image.draft(None, (least, least))


def _upright(image: Image.Image, met: Met) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken block: the picture is then as it lies
        return image
    if orientation not in range(2, 9):
        return image
    met.changes["orientation"] += 1
    return ImageOps.exif_transpose(image)


def _plain(image: Image.Image, look: Look, met: Met) -> tuple[Image.Image, Kind]:
    """Convert a picture of any mode to L or RGB."""
    mode = image.mode
    if mode == "1":
        return image.convert("L"), "bit"
    if mode == "L" and "transparency" not in image.info:
        return image, "grey"
    if mode == "RGB" and "transparency" not in image.info:
        return image, "colour"
    if mode.startswith("I"):
        met.changes["16 bits"] += 1
        return _eight_bits(image), "grey"
    if mode in ("L", "LA", "La"):
        return _composited(image, look, met, grey=True)
    if mode in ("RGB", "RGBA", "RGBa"):
        return _composited(image, look, met, grey=False)
    if mode in ("P", "PA"):
        met.changes["palette"] += 1
        grey = _grey_palette(image)
        if mode == "PA" or "transparency" in image.info:
            return _composited(image, look, met, grey=grey)
        return image.convert("L" if grey else "RGB"), "grey" if grey else "colour"
    if mode in ("CMYK", "YCbCr", "HSV"):
        met.changes[mode] += 1
        return image.convert("RGB"), "colour"
    raise Unreadable(f"its pixels are of Pillow's mode {mode}, which is not read here: save it in 8 bits, or as .npy")


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise Unreadable("its pixels have 32 bits: save it in 8 or 16 bits, or as .npy")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _grey_palette(image: Image.Image) -> bool:
    colours = np.frombuffer(bytes(image.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)
    entries = np.unique(np.asarray(image.getchannel(0) if image.mode == "PA" else image))
    used = colours[entries[entries < len(colours)]]
    return bool((used == used[:, :1]).all())


def _composited(image: Image.Image, look: Look, met: Met, *, grey: bool) -> tuple[Image.Image, Kind]:
    """Composite a transparent picture onto the background; a grey one on a coloured background becomes coloured."""
    layered = image.convert("RGBA")
    if layered.getchannel("A").getextrema() != (255, 255):
        met.changes["alpha"] += 1
        under = Image.new("RGBA", layered.size, (*look.background, 255))
        layered = Image.alpha_composite(under, layered)
        grey = grey and len(set(look.background)) == 1
    return layered.convert("L" if grey else "RGB"), "grey" if grey else "colour"


def arranged(image: Image.Image, kind: Kind, look: Look, met: Met) -> Picture:
    """Crop and scale the picture, and make it grey."""
    if look.crop is not None:
        image = _cropped(image, look.crop)
    if look.size is not None and (image.height, image.width) != look.size:
        met.changes["scaled"] += 1
        size = (look.size[1], look.size[0])
        image = (
            image.resize(size, Image.Resampling.BILINEAR)
            if look.stretch
            else ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        )
        kind = "grey" if kind == "bit" else kind
    if look.grey and kind == "colour":
        image, kind = image.convert("L"), "grey"
    return Picture(np.asarray(image), kind)


def _cropped(image: Image.Image, crop: tuple[int, int]) -> Image.Image:
    height, width = crop
    if height > image.height or width > image.width:
        raise Unreadable(f"it is {image.height}x{image.width}, smaller than the crop of {height}x{width}")
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
