"""Pictures: a folder or an archive of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_models.data.canonical import SPLITS
from vae_models.data.errors import DataRefused
from vae_models.data.ingest import files, labels, splits
from vae_models.data.ingest.decode import Met, is_picture, looks_like_picture
from vae_models.data.ingest.files import Files, InFile
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.names import shown, some, without_common_folders
from vae_models.data.ingest.options import Options
from vae_models.data.ingest.pictures import Decoded, Source, decode_into, refuse_broken
from vae_models.data.ingest.report import Report, begin, counted
from vae_models.data.ingest.splits import Division
from vae_models.data.ingest.writer import Draft
from vae_models.data.spec import AXES, DataSpec, LabelSpec


def add(path: Path, options: Options, draft: Draft, progress: StepProgress | None) -> tuple[DataSpec, Report]:
    """Decode the pictures of a folder or archive into `draft`. Raise `DataRefused` with what is wrong, and where."""
    report = begin("images", path)
    pictures = pictures_of(path, progress)
    if pictures.broken:
        refuse_broken(pictures.broken, len(pictures.names) + len(pictures.broken), skip=options.skip_broken)
    division, below = divided(pictures.names, options)
    names_of_labels = first_folders(below, report)
    decoded = decode_into(draft, pictures, division, options, progress)
    broken = [*pictures.broken, *((pictures.names[place], why) for place, why in sorted(decoded.tally.broken.items()))]
    report.source["files"] = len(pictures.names) + len(pictures.broken)
    return finish(draft, pictures, division, decoded, names_of_labels, options, report, broken, pictures.ignored)


def pictures_of(path: Path, progress: StepProgress | None) -> Files:
    """Return the pictures that a folder or archive holds. Raise `DataRefused` where it holds none."""
    meter = Meter("listing", None, "files", progress)
    everything = files.of_folder(path) if path.is_dir() else files.of_archive(path)
    meter.at(len(everything.names))
    bare = _bare(everything)
    pictures = everything.wanted(lambda name: is_picture(name) or name in bare, "not pictures")
    if not pictures.names and not pictures.broken:
        raise DataRefused(_none(path, everything))
    return pictures


def _bare(everything: Files) -> frozenset[str]:
    """Return the files of a folder whose names have no ending, but which begin as pictures do."""
    bare = []
    for name, locator in zip(everything.names, everything.locators or (), strict=False):
        if "." not in name.rpartition("/")[2] and isinstance(locator, InFile):
            try:
                with open(locator.path, "rb") as file:
                    if looks_like_picture(file.read(8)):
                        bare.append(name)
            except OSError:
                continue
    return frozenset(bare)


def _none(path: Path, everything: Files) -> str:
    if not everything.names:
        passed = ", ".join(f"{count:,} {why}" for why, count in everything.ignored.items())
        return f"{path} holds no files" + (f" but what is passed over: {passed}" if passed else "")
    return (
        f"{path} holds no pictures among its {len(everything.names):,} files ({some(everything.names)}); pictures are "
        "png, jpg, webp, bmp, tif, gif, ppm. Arrays, tables and videos are given as files of their own"
    )


def divided(names: Sequence[str], options: Options) -> tuple[Division, list[str]]:
    """Return which file belongs to which split, and the names below what all share, and below the splits' folders."""
    _, short = without_common_folders(names, splits.WORDS)
    by_folders = splits.by_folders(short)
    below = by_folders[1] if by_folders is not None else short
    if options.split_file is not None:
        return splits.by_file(options.split_file, names, short), below
    if by_folders is not None:
        return by_folders[0], below
    return splits.by_fraction(len(names), options.fractions), below


def first_folders(names: Sequence[str], report: Report) -> list[str] | None:
    """Return the label of each name: its first folder; None where there are no folders, or files beside them."""
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    distinct = set(tops)
    if len(distinct) == 1:
        return None
    if "" in distinct:
        beside = [name for name, top in zip(names, tops, strict=True) if not top]
        report.note(f"no labels: {len(beside):,} files lie beside the folders ({some(beside[:3])})")
        return None
    return [shown(top) for top in tops]


def finish(
    draft: Draft,
    source: Source,
    division: Division,
    decoded: Decoded,
    names_of_labels: Sequence[str] | NDArray[Any] | None,
    options: Options,
    report: Report,
    broken: Sequence[tuple[str, str]],
    ignored: dict[str, int],
) -> tuple[DataSpec, Report]:
    """Write the labels of decoded pictures, and return the facts and the report."""
    of = division.of[decoded.kept]
    label_spec = write_labels(draft, names_of_labels, decoded.kept, of, options.label or "class", report)
    tally = decoded.tally
    bits = tally.kinds["bit"] == tally.kinds.total()
    report.source["splits"] = division.how
    report.note(f"splits: {division.how}")
    describe(report, options, tally.met, decoded.shape, bits=bits)
    report.ignored(ignored)
    report.left_out(broken)
    counts = [int((of == number).sum()) for number in range(len(SPLITS))]
    spec = DataSpec(
        shape=decoded.shape,
        axes=AXES,
        support="bits" if bits else "bytes",
        sizes=(counts[0], counts[1], counts[2]),
        labels=label_spec,
    )
    return spec, report


def write_labels(
    draft: Draft,
    values: Sequence[str] | NDArray[Any] | None,
    kept: NDArray[np.bool_],
    of: NDArray[np.uint8],
    name: str,
    report: Report,
) -> LabelSpec | None:
    """Write the labels of the data that are kept; return their specification, None without labels."""
    if values is None:
        return None
    coded = labels.coded(np.asarray(values)[kept] if not isinstance(values, np.ndarray) else values[kept], name)
    for number, split in enumerate(SPLITS):
        draft.labels(split, coded.values[of == number])
    report.note(coded.described)
    return coded.spec


def describe(report: Report, options: Options, met: Met, shape: tuple[int, ...], *, bits: bool) -> None:
    """Report what became of the pictures, as text and as data."""
    changes = counted(met.changes)
    report.made |= {
        "size": None if options.size is None else list(options.size),
        "crop": None if options.crop is None else list(options.crop),
        "stretch": options.stretch,
        "grey": options.grey,
        "background": list(options.background),
        "modes": counted(met.modes),
        "changes": changes,
    }
    report.note(
        f"{'colour' if shape[-3] == 3 else 'grey'} of {shape[-2]}x{shape[-1]} pixels, "
        + ("bits: 0 and 1" if bits else "bytes k: x = k/255")
    )
    words = {
        "alpha": f"transparent pixels composited onto {_colour(options.background)}",
        "16 bits": "16 bits to 8: round(k / 257)",
        "colour of 16 bits": "16 bits of colour to 8: the high byte",
        "palette": "palettes to their colours",
        "orientation": "turned as EXIF says",
        "frames": "several frames: the first is taken",
        "CMYK": "CMYK to RGB without a colour profile",
        "YCbCr": "YCbCr to RGB",
        "HSV": "HSV to RGB",
        "scaled": "scaled, bilinear with antialiasing"
        + (", the ratio not kept" if options.stretch else ", the ratio kept and what is over cut evenly"),
    }
    for change, count in changes.items():
        report.note(f"{words[change]}: {count:,} files")
    if options.crop is not None:
        report.note(f"cut from the middle: {options.crop[0]}x{options.crop[1]} pixels")
    if options.grey:
        report.note("made grey: 0.299 R + 0.587 G + 0.114 B")


def _colour(colour: tuple[int, int, int]) -> str:
    return {(255, 255, 255): "white", (0, 0, 0): "black"}.get(colour, "#" + bytes(colour).hex())
