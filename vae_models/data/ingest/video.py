"""Videos: folders of frames (one folder a video), files such as .mp4, or arrays N x T x ....

All are as long as the longest, with zeros behind; where they differ, each has its length. --frames cuts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_models.data.canonical import SPLITS
from vae_models.data.errors import DataRefused
from vae_models.data.ingest import arrays, files, images, pool
from vae_models.data.ingest.decode import Look, Met, Opened, arranged, is_picture
from vae_models.data.ingest.files import Locator, Unreadable, content
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.names import natural, normalised, shown, walk
from vae_models.data.ingest.options import Options
from vae_models.data.ingest.pictures import leave_out, look_of, refuse_broken
from vae_models.data.ingest.report import Report, begin
from vae_models.data.ingest.splits import Division
from vae_models.data.ingest.writer import Draft, Shards
from vae_models.data.spec import Axis, DataSpec

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
_AXES: tuple[Axis, ...] = ("time", "channel", "height", "width")
_MOST_FRAMES = 100_000


class Clip(Protocol):
    """One video. Sent to other processes."""

    def frames(self, look: Look, met: Met) -> Iterator[NDArray[np.uint8]]:
        """Yield each frame, [height, width] or [height, width, 3]. Raise `Unreadable`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The frames of one folder, in natural order of their names."""

    names: tuple[str, ...]
    locators: tuple[Locator, ...]

    def frames(self, look: Look, met: Met) -> Iterator[NDArray[np.uint8]]:
        """Yield each frame. Raise `Unreadable` with the frame's name."""
        for name, locator in zip(self.names, self.locators, strict=True):
            try:
                yield Opened(content(locator)).decode(look, met).pixels
            except Unreadable as error:
                raise Unreadable(f"frame {shown(name)}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that PyAV decodes."""

    path: str

    def frames(self, look: Look, met: Met) -> Iterator[NDArray[np.uint8]]:
        """Yield each frame in RGB. Raise `Unreadable`."""
        import av

        try:
            with av.open(self.path) as container:
                if not container.streams.video:
                    raise Unreadable("it has no video stream")
                for frame in container.decode(video=0):
                    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                    yield arranged(picture, "colour", look, met).pixels
        except Unreadable:
            raise
        except Exception as error:  # FFmpeg's errors, and what PyAV raises of altered bytes
            raise Unreadable(f"it cannot be decoded: {error}") from error


def add(path: Path, options: Options, draft: Draft, progress: StepProgress | None) -> tuple[DataSpec, Report]:
    """Decode videos into `draft`. Raise `DataRefused`."""
    if path.is_file() and path.suffix.lower() == ".npy":
        return arrays.add(path, _as_video(path, options), draft, progress)
    report = begin("video", path)
    names, clips = _clips(path)
    division, below = images.divided(names, options)
    look = look_of(options)
    measured = _measured(names, clips, look, options, progress)
    shape, asked = _shape(names, measured, options)
    shards = draft.allocate(division.counts, shape, np.dtype(np.uint8))
    rows = division.rows
    writer = _Writer(look=look, shards=shards, size=asked)
    tasks = [
        _Task(place, clip, int(division.of[place]), int(rows[place]))
        for place, clip in enumerate(clips)
        if place not in measured.broken
    ]
    meter = Meter("decoding", len(tasks), "videos", progress)
    broken, met = dict(measured.broken), Met()
    for place, why, seen in pool.unordered(writer, tasks, min(options.processes, len(tasks))):
        met += seen
        meter.add(1)
        if why is not None:
            broken[place] = why
    return _finished(draft, names, below, division, measured, broken, met, shape, options, report)


def _as_video(path: Path, options: Options) -> Options:
    """Return the options under which four dimensions are grey videos, and not images."""
    if options.axes is not None:
        return options
    try:
        dimensions = np.load(path, mmap_mode="r", allow_pickle=False).ndim
    except (OSError, ValueError):
        return options  # which is said when it is opened
    return replace(options, axes="NTHW") if dimensions == 4 else options


def _clips(path: Path) -> tuple[list[str], list[Clip]]:
    """Return the videos by name: files where there are any, else folders of frames."""
    if path.is_file():
        if files.is_archive(path):
            raise DataRefused(f"{path} is an archive: videos are read from folders. Unpack it, and give the folder")
        _need_decoder(path)
        raise DataRefused(f"{path} is one video: give the folder that it is in")
    tree = walk(path)
    named = [(name, file) for name, file in tree.files if name.lower().endswith(SUFFIXES)]
    if named:
        _need_decoder(path)
        return [name for name, _ in named], [File(path=file) for _, file in named]
    frames: dict[str, list[tuple[str, str]]] = {}
    for name, file in tree.files:
        folder, _, last = name.rpartition("/")
        if folder and is_picture(name):
            frames.setdefault(folder, []).append((last, file))
    if not frames:
        raise DataRefused(
            f"{path} holds no videos: {', '.join(SUFFIXES)} files, or a folder of frames (png, jpg, ...) for each video"
        )
    names = sorted(frames, key=lambda name: (normalised(name), name))
    clips: list[Clip] = []
    for name in names:
        ordered = sorted(frames[name], key=lambda frame: natural(frame[0]))
        locators = tuple(files.InFile(file) for _, file in ordered)
        clips.append(Folder(names=tuple(last for last, _ in ordered), locators=locators))
    return names, clips


def _need_decoder(path: Path) -> None:
    try:
        import av  # noqa: F401 - whether it is there
    except ImportError:
        raise DataRefused(
            f"{path}: decoding videos needs PyAV, which is not installed: pip install 'vaesvc[video]'; or give folders "
            "of frames, one for each video"
        ) from None


@dataclass(kw_only=True)
class _Measured:
    """How long each video is, which sizes and channels there are, and which cannot be read."""

    lengths: NDArray[np.int32]
    sizes: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    colour: bool = False
    broken: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Measurer:
    """Counts the frames of one video and looks at the first. Sent to other processes."""

    look: Look
    most: int | None

    def __call__(self, task: tuple[int, Clip]) -> tuple[int, int, tuple[int, ...], str | None]:
        """Return (its number, frames, shape of the first, why it cannot be read)."""
        place, clip = task
        try:
            frames = clip.frames(self.look, Met())
            shape = next(frames).shape
            most = self.most or _MOST_FRAMES
            if isinstance(clip, Folder):
                return place, min(len(clip.names), most), shape, None
            return place, 1 + sum(1 for at, _ in zip(range(most - 1), frames, strict=False) if at >= 0), shape, None
        except StopIteration:
            return place, 0, (), "it has no frames"
        except Unreadable as error:
            return place, 0, (), str(error)


def _measured(
    names: Sequence[str], clips: Sequence[Clip], look: Look, options: Options, progress: StepProgress | None
) -> _Measured:
    measured = _Measured(lengths=np.zeros(len(clips), np.int32))
    meter = Meter("measuring", len(clips), "videos", progress)
    measurer = _Measurer(look=look, most=options.frames)
    processes = min(options.processes, len(clips)) if isinstance(clips[0], File) else 1
    for place, count, shape, why in pool.unordered(measurer, enumerate(clips), processes):
        measured.lengths[place] = count
        meter.add(1)
        if why is not None:
            measured.broken[place] = why
            continue
        measured.sizes.setdefault((shape[0], shape[1]), []).append(place)
        measured.colour = measured.colour or len(shape) == 3
    if measured.broken:
        broken = [(names[place], why) for place, why in sorted(measured.broken.items())]
        refuse_broken(broken, len(names), skip=options.skip_broken)
    return measured


def _shape(
    names: Sequence[str], measured: _Measured, options: Options
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Return the shape of all, and (height, width) of every frame. Raise `DataRefused` where they differ."""
    if len(measured.sizes) > 1:
        listed = sorted(measured.sizes.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:10]
        lines = "\n".join(
            f"  {height}x{width}: {len(places):,}, for example {shown(names[min(places)])}"
            for (height, width), places in listed
        )
        raise DataRefused(
            f"the videos have {len(measured.sizes)} sizes (height x width):\n{lines}\n"
            "Say which one all shall have: --size 64"
        )
    height, width = next(iter(measured.sizes))
    channels = 3 if measured.colour and not options.grey else 1
    return (int(measured.lengths.max()), channels, height, width), (height, width)


@dataclass(frozen=True)
class _Task:
    place: int
    clip: Clip
    split: int
    row: int


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """Decodes one video and writes it into its row. Sent to other processes."""

    look: Look
    shards: dict[Any, Shards]
    size: tuple[int, int]

    def __call__(self, task: _Task) -> tuple[int, str | None, Met]:
        """Return (its number, why it cannot be read, its counts of modes and changes)."""
        shards, met = self.shards[SPLITS[task.split]], Met()
        datum = np.zeros((1, *shards.shape), np.uint8)
        try:
            frames = task.clip.frames(self.look, met)
            for at, pixels in zip(range(shards.shape[0]), frames, strict=False):
                if pixels.shape[:2] != self.size:
                    raise Unreadable(
                        f"frame {at} is {pixels.shape[0]}x{pixels.shape[1]}, not {self.size[0]}x{self.size[1]}"
                    )
                if pixels.ndim == 3 and shards.shape[1] == 1:
                    raise Unreadable(f"frame {at} is in colour, and the first frame of every video is grey: --grey")
                datum[0, at] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        except Unreadable as error:
            return task.place, str(error), met
        shards.write(task.row, datum)
        return task.place, None, met


def _finished(
    draft: Draft,
    names: Sequence[str],
    below: Sequence[str],
    division: Division,
    measured: _Measured,
    broken: dict[int, str],
    met: Met,
    shape: tuple[int, int, int, int],
    options: Options,
    report: Report,
) -> tuple[DataSpec, Report]:
    kept = np.ones(len(names), bool)
    kept[list(broken)] = False
    listed = [(names[place], why) for place, why in sorted(broken.items())]
    if listed:
        refuse_broken(listed, len(names), skip=options.skip_broken)
        leave_out(draft, division, kept)
    of, lengths = division.of[kept], measured.lengths[kept]
    own_lengths = bool((lengths != lengths[0]).any())
    if own_lengths:
        for number, split in enumerate(SPLITS):
            draft.lengths(split, lengths[of == number])
        report.note(f"videos of {lengths.min():,} to {lengths.max():,} frames: zeros behind the shorter, lengths kept")
    else:
        report.note(f"videos of {lengths[0]:,} frames" + (", the first of each" if options.frames else ""))
    folders = images.first_folders(below, report)
    label_spec = images.write_labels(draft, folders, kept, of, options.label or "class", report)
    images.describe(report, options, met, shape, bits=False)
    report.source |= {"data": len(names), "splits": division.how}
    report.note(f"splits: {division.how}")
    report.left_out(listed)
    counts = [int((of == number).sum()) for number in range(len(SPLITS))]
    spec = DataSpec(
        shape=shape,
        axes=_AXES,
        support="bytes",
        sizes=(counts[0], counts[1], counts[2]),
        labels=label_spec,
        lengths=own_lengths,
    )
    return spec, report
