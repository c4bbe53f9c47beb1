"""data: sets of one's own. Decoded here; sent to the service, or kept on this machine alone."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import quantities
from service.cli import data_service, output
from service.cli.arguments import AsJson
from service.errors import NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from service import wire
    from vae_models.data.ingest import Options, Step
    from vae_models.data.spec import DataSpec
    from vae_models.data.stored import StoredSet

app = typer.Typer(help="Your own data sets: add, list, show, remove.", no_args_is_help=True)

LINE_SECONDS = 2.0  # between two lines of progress, where they cannot overwrite each other

Name = Annotated[str, typer.Argument(metavar="NAME", help="How the set is called.", show_default=False)]
Which = Annotated[str, typer.Argument(metavar="NAME|DIGEST|FOLDER", help="Which set.", show_default=False)]
Local = Annotated[bool, typer.Option("--local", help="On this machine alone: for `vaesvc run`, without servers.")]


def _text(name: str, help: str, metavar: str = "TEXT") -> Any:
    return typer.Option(name, metavar=metavar, help=help, show_default=False)


@app.command()
def add(
    name: Name,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, a folder, a zip or tar.", show_default=False)],
    local: Local = False,
    kind: Annotated[str | None, _text("--as", "What PATH holds: images, arrays, table, text, video.", "KIND")] = None,
    size: Annotated[str | None, _text("--size", "Scale pictures to N or HxW pixels, cutting evenly.", "SIZE")] = None,
    crop: Annotated[str | None, _text("--crop", "First cut N or HxW pixels from the middle.", "SIZE")] = None,
    stretch: Annotated[bool, typer.Option("--stretch", help="Scale without keeping the ratio.")] = False,
    grey: Annotated[bool, typer.Option("--grey", help="One channel.")] = False,
    background: Annotated[
        str, typer.Option(metavar="COLOUR", help="Below transparent pixels: white, black, grey, #rrggbb.")
    ] = "white",
    key: Annotated[str | None, _text("--key", "The array or column that holds x.", "NAME")] = None,
    label: Annotated[str | None, _text("--label", "The array or column that holds the labels.", "NAME")] = None,
    axes: Annotated[
        str | None, _text("--axes", "An array's dimensions: NHWC, NCHW, NTHWC, or time,feature", "AXES")
    ] = None,
    scale: Annotated[
        str | None, _text("--scale", "What values are: bits, bytes, unit, 255, signed, reals.", "SCALE")
    ] = None,
    standardise: Annotated[
        bool | None,
        typer.Option(
            "--standardise/--no-standardise",
            help="Subtract the training mean, divide by the training standard deviation; of tables unless told not to.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(metavar="word|char", help="What a sentence is made of.")] = "word",
    vocabulary: Annotated[int, typer.Option(min=5, max=2**24, help="Tokens at most; rarer ones are <unk>.")] = 10_000,
    length: Annotated[int | None, _text("--length", "Tokens of a sentence at most; longer ones are cut.", "N")] = None,
    frames: Annotated[int | None, _text("--frames", "Frames of a video at most; longer ones are cut.", "N")] = None,
    split: Annotated[
        str, typer.Option(metavar="A/B/C", help="Fractions of train, val, test, where PATH has no splits.")
    ] = "0.8/0.1/0.1",
    split_file: Annotated[
        Path | None, _text("--split-file", "Lines `name,split` with train, val or test.", "FILE")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out what cannot be read, and list it.")
    ] = False,
    workers: Annotated[int | None, _text("--workers", "Processes; default one for each core.", "N")] = None,
    json: AsJson = False,
) -> None:
    """Decode PATH, check everything, and keep it under NAME: in the service, or on this machine where there is none.

    Again with the same NAME, it points to the new set; what was submitted before keeps the old one.
    """
    from vae_models.data import own

    here = _here(local)
    with mistakes():
        own.check_name(name)
    if not here:
        data_service.check(name)
    with mistakes():
        options = _options(
            kind=kind,
            size=size,
            crop=crop,
            stretch=stretch,
            grey=grey,
            background=background,
            key=key,
            label=label,
            axes=axes,
            scale=scale,
            standardise=standardise,
            tokens=tokens,
            vocabulary=vocabulary,
            length=length,
            frames=frames,
            split=split,
            split_file=split_file,
            skip_broken=skip_broken,
            workers=workers,
        )
        made = decoded(name, path, options, point=here)
    if not here:
        data_service.send(made, name, cache_dir())
    _tell(made, name, as_json=json)
    if not json:
        output.note(
            f"Train on it: vaesvc run RECIPE --data {name}" if here else data_service.next_commands(name, made.spec)
        )


def _here(local: bool) -> bool:
    """Return whether this machine alone is meant: by the option, or because no service is set up, which is then
    noted."""
    if local or data_service.configured():
        return local
    output.note("No service is set up (`vaesvc up`, or VAESVC_API_URL): on this machine alone.")
    return True


def decoded(name: str, path: Path, options: Options, *, point: bool = True) -> StoredSet:
    """Decode PATH into the cache and let NAME point to it there, if asked to. Raises `DataError`."""
    from vae_models.data import own

    own.check_name(name)
    with steps() as show:
        made = own.add(path, options, cache_dir(), progress=show)
    if point:
        own.point(cache_dir(), name, made.digest, str(path.resolve()))
    return made


def cache_dir() -> Path:
    """Return the folder of the settings in which sets are kept."""
    from service import settings

    return settings.load().cache_dir


@app.command()
def show(
    which: Which,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the picture goes; default a temporary file.")
    ] = None,
    local: Local = False,
    json: AsJson = False,
) -> None:
    """Show a set's facts and a picture of a few data; in the service also where its name has pointed, what needs it."""
    from vae_models.data import own

    if not _is_here(which) and not _here(local):
        with tempfile.TemporaryDirectory(prefix="vaesvc-") as scratch, mistakes():
            detail, few = data_service.look(which, cache_dir(), Path(scratch))
            picture = None if few is None or few.spec.support == "tokens" else _picture(few, out)
            _tell_named(detail, as_json=json, picture=picture)
            if few is not None and few.spec.support == "tokens" and not json:
                _print_sentences(few)
        return
    with mistakes():
        data = own.find(cache_dir(), which)
        picture = None if data.spec.support == "tokens" else _picture(data, out)
    _tell(data, None, as_json=json, picture=picture)


def _is_here(which: str) -> bool:
    """Return whether it is a folder, or a set's digest: those are this machine's."""
    import re

    from vae_models.data.canonical import DATA_JSON

    return (Path(which) / DATA_JSON).is_file() or re.fullmatch(r"[0-9a-f]{8,64}", which) is not None


@app.command("list")
def list_sets(local: Local = False, json: AsJson = False) -> None:
    """List the names in the service and the sets that are kept without one, and why; or the names on this machine.

    A set is kept for a name, for a registered model that was trained on it, and for a job that is not over or that
    ended in the last 30 days (the service's setting `data_job_grace_seconds`): it may be tried again.
    """
    from vae_models.data import own

    if not _here(local):
        data_service.names(json=json)
        return
    sets = [(pointer, _facts(pointer.digest)) for pointer in own.pointers(cache_dir())]
    if json:
        output.as_json([{**vars(pointer), "facts": data and data.spec} for pointer, data in sets])
        return
    rows = [
        (pointer.name, pointer.digest[:12], *_columns(data), output.moment(pointer.added_at)) for pointer, data in sets
    ]
    output.table(("name", "digest", "shape", "support", "train/val/test", "size", "added"), rows)


@app.command("rm")
def remove(name: Name, local: Local = False, json: AsJson = False) -> None:
    """Remove a name; its data too, when nothing needs them any more."""
    from vae_models.data import own

    if not _here(local):
        data_service.remove(name, json=json)
        return
    with mistakes():
        pointer, gone = own.remove(cache_dir(), name)
    if json:
        output.as_json({"name": pointer.name, "digest": pointer.digest, "deleted": gone})
    else:
        output.note(f"Removed {name}; its data {'are deleted' if gone else 'stay: another name points to them'}.")


def _facts(digest: str) -> StoredSet | None:
    from vae_models.data import own, stored
    from vae_models.data.errors import DataError

    try:
        return stored.read(own.folder(cache_dir()) / digest)
    except DataError:
        return None


def _columns(data: StoredSet | None) -> tuple[str, str, str, str]:
    if data is None:
        return "damaged or gone", "-", "-", "-"
    spec = data.spec
    sizes = "/".join(f"{size:,}" for size in spec.sizes)
    return "x".join(map(str, spec.shape)), spec.support, sizes, quantities.size(data.manifest.bytes)


def _options(*, size: str | None, crop: str | None, background: str, split: str, **plain: Any) -> Options:
    from vae_models.data.ingest import options

    _one_of("--as", plain["kind"], options.KINDS)
    _one_of("--scale", plain["scale"], options.SCALES)
    _one_of("--tokens", plain["tokens"], ("word", "char"))
    for option in ("length", "frames", "workers"):
        if plain[option] is not None and plain[option] < 1:
            raise UsageError(f"--{option} {plain[option]}: at least 1")
    return options.Options(
        size=None if size is None else options.parse_size(size),
        crop=None if crop is None else options.parse_size(crop, "--crop"),
        background=options.parse_colour(background),
        fractions=options.parse_fractions(split),
        **plain,
    )


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value}: one of {', '.join(allowed)}")


@contextmanager
def mistakes() -> Iterator[None]:
    """Raise a user's mistake as UsageError (one line and exit 2), and a disk's as the storage's error."""
    from vae_models.data.errors import DataError, DataMissing, DataRefused

    try:
        yield
    except DataRefused as error:
        raise UsageError(str(error)) from error
    except DataMissing as error:
        raise NotFoundError(str(error)) from error
    except DataError as error:
        raise StorageError(str(error)) from error


@contextmanager
def steps() -> Iterator[Any]:
    """Yield a printer of `ingest`'s progress on stderr, from the second second on: one line, rewritten, on a
    terminal."""
    tty = sys.stderr.isatty()
    began, shown_at = time.monotonic(), 0.0

    def show(step: Step) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now - began < LINE_SECONDS or (now - shown_at < LINE_SECONDS and not tty and not step.over):
            return
        shown_at = now
        sys.stderr.write(f"\r\033[K{_line(step)}" if tty else f"{_line(step)}\n")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if tty and shown_at:
            output.note("")


def _line(step: Step) -> str:
    """Return for example `decoding 12,800 of 20,000 files  0:00:04 left`."""
    done, total = (
        (quantities.size(step.done), quantities.size(step.total or 0))
        if step.unit == "bytes"
        else (f"{step.done:,}", f"{step.total or 0:,} {step.unit}")
    )
    left = "" if step.seconds_left is None else f"  {output.duration(step.seconds_left)} left"
    return f"{step.stage} {done}" + (f" of {total}{left}" if step.total else f" {step.unit}")


def _picture(data: StoredSet, out: Path | None) -> Path:
    from vae_models.data import contact_sheet

    path = out or Path(tempfile.mkdtemp(prefix="vaesvc-")) / f"{data.digest[:12]}.png"
    try:
        contact_sheet.draw(data).save(path, format="PNG")
    except OSError as error:
        raise StorageError(f"--out {path}: cannot be written: {error.strerror}") from error
    return path


def _tell(data: StoredSet, name: str | None, *, as_json: bool, picture: Path | None = None) -> None:
    """Print facts as a table and what was done in sentences, or everything as JSON."""
    manifest = data.manifest
    if as_json:
        extra = {} if picture is None else {"picture": str(picture)}
        named = {} if name is None else {"name": name}
        output.as_json(
            {**named, "digest": data.digest, "folder": str(data.folder), "facts": data.spec, "bytes": manifest.bytes}
            | {"made": manifest.made, "source": manifest.source}
            | extra
        )
        return
    rows = [("name", name)] if name is not None else []
    rows += [("digest", data.digest), *_fact_rows(data.spec), ("size", quantities.size(manifest.bytes))]
    output.table(("fact", "value"), [*rows, ("folder", str(data.folder))])
    _tell_made(manifest.made, picture)
    if data.spec.support == "tokens" and name is None:
        _print_sentences(data)


def _tell_named(detail: wire.DataDetail, *, as_json: bool, picture: Path | None) -> None:
    """Print the same of a set in the service, with where the name has pointed and the jobs that need it."""
    named = detail.data
    if as_json:
        plain = {**detail.model_dump(mode="json"), **({} if picture is None else {"picture": str(picture)})}
        output.as_json(plain)
        return
    rows = [("name", named.name), ("digest", named.digest), *_fact_rows(named.facts)]
    rows += [("size", quantities.size(named.bytes)), ("owner", named.owner), ("moved", output.moment(named.moved_at))]
    before = [f"{move.previous[:12]} until {output.moment(move.at)}" for move in detail.moves if move.previous]
    rows += [("pointed to", "; ".join(before))] if before else []
    rows += [("jobs that wait or run", ", ".join(detail.jobs))] if detail.jobs else []
    rows += [("kept for", data_service.why(detail.kept, named.name))]
    output.table(("fact", "value"), rows)
    _tell_made(detail.made, picture)


def _fact_rows(spec: DataSpec) -> list[tuple[str, str]]:
    labels = "-" if spec.labels is None else str(spec.labels.name)
    if spec.labels is not None and spec.labels.classes is not None:
        labels += f", {len(spec.labels.classes):,} classes"
    return [
        ("shape", " x ".join(f"{axis} {size:,}" for axis, size in zip(spec.axes, spec.shape, strict=True))),
        ("support", spec.support + (f", {spec.vocabulary:,} tokens" if spec.vocabulary else "")),
        ("train, val, test [data]", ", ".join(f"{size:,}" for size in spec.sizes)),
        ("labels", labels),
        ("lengths", "of their own" if spec.lengths else "all alike"),
    ]


def _tell_made(made: Mapping[str, Any], picture: Path | None) -> None:
    for sentence in made.get("notes", []):
        output.note(f"- {sentence}")
    if picture is not None:
        output.data(f"picture: {picture}")


def _print_sentences(data: StoredSet) -> None:
    from vae_models.data import contact_sheet

    for sentence in contact_sheet.sentences(data):
        output.data(sentence)
