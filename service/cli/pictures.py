"""pictures: what a job has drawn, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from service.cli import connect, output, progress
from service.cli.arguments import AsJson, JobId
from service.errors import NotFoundError, StorageError

MOST_BYTES = 64 * 2**20  # of one picture


def pictures(
    job: JobId,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the pictures go; default here.", show_default=False)
    ] = Path(),
    json: AsJson = False,
) -> None:
    """Save a job's last pictures: originals over their reconstructions, and samples; a study's curves."""
    with connect.client() as client:
        shown = client.view(job)
    if not shown.pictures:
        raise NotFoundError(
            f"job {job} has no pictures yet: it is {progress.state(shown.job)}. They are kept at its end"
        )
    paths = save(shown.pictures, out, job)
    if json:
        output.as_json({name: str(path) for name, path in paths.items()})
        return
    for path in paths.values():
        output.data(str(path))


def save(addresses: Mapping[str, str], out: Path, prefix: str) -> dict[str, Path]:
    """Write each picture to OUT/PREFIX-NAME.png, or .gif where its name ends so.

    Raises StorageError where it cannot be written or fetched.
    """
    from service.download import get_bytes

    paths = {name: out / f"{prefix}-{name}{'' if name.endswith('.gif') else '.png'}" for name in addresses}
    try:
        for name, address in addresses.items():
            paths[name].parent.mkdir(parents=True, exist_ok=True)  # a name may have a folder: samples/prior
            paths[name].write_bytes(get_bytes(address, MOST_BYTES))
    except OSError as error:
        raise StorageError(f"--out {out}: cannot be written: {error.strerror}") from error
    return paths
