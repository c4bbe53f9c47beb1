"""Pictures where MLflow's pages look for them: the image grid of a run and of a comparison, with its slider of steps.

They lie as `MlflowClient.log_image(key=, step=)` puts them, in images/ of the run's artifacts:
    <key>+step+<step>+timestamp+<ms>+<id>.png             as it was drawn
    <key>+step+<step>+timestamp+<ms>+<id>+compressed.webp  small, for the grid
A / in a key is written ~. Here a picture's file name is a function of run, key and step alone: one that comes again
(training went on from a checkpoint, or a spool was sent twice) takes the place of the first.
"""

from __future__ import annotations

import functools
import io
import re
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import UsageError
from service.tracking.server import client, explained

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "images"
NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
FILE = re.compile(r"(?:.*/)?(?P<key>[^/+]+)\+step\+(?P<step>\d+)\+timestamp\+\d+\+[0-9a-f-]+\.png")
SMALL = 256  # pixels: the longer side in the grid, as MLflow's own client makes it
ANNOUNCED = "mlflow.loggedImages"  # the tag without which the pages do not look


def put(uri: str, run_id: str, name: str, step: int, png: bytes) -> None:
    """Store a picture of the run. Raises UsageError for a name that is not allowed, and for what is no picture."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a picture: letters, digits, _ - . and / between names are allowed")
    stem = _stem(run_id, name, step, _announce(uri, run_id))
    with tempfile.TemporaryDirectory(prefix="vaesvc-picture-") as folder:
        Path(folder, f"{stem}.png").write_bytes(png)
        _small(png).save(Path(folder, f"{stem}+compressed.webp"))
        with explained(uri, f"keep a picture of run {run_id}"):
            client(uri).log_artifacts(run_id, folder, FOLDER)


def newest(paths: Iterable[str], name: str) -> str | None:
    """Return which of a run's files is the picture of this name with the greatest step, in full size."""
    matches = [match for match in map(FILE.fullmatch, paths) if match and match["key"] == name.replace("/", "~")]
    return max(matches, key=lambda match: int(match["step"])).string if matches else None


def _stem(run_id: str, name: str, step: int, began: int) -> str:
    unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{run_id}/{name}/{step}")
    return f"{name.replace('/', '~')}+step+{step}+timestamp+{began}+{unique}"


@functools.lru_cache(maxsize=1024)
def _announce(uri: str, run_id: str) -> int:
    """Tag the run as having pictures, once in a process. Return when it began, in milliseconds since 1970."""
    with explained(uri, f"announce the pictures of run {run_id}"):
        began = int(client(uri).get_run(run_id).info.start_time)
        client(uri).set_tag(run_id, ANNOUNCED, "True")
    return began


def _small(png: bytes) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(png)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UsageError(f"what was drawn is no picture: {error}") from error
    scale = SMALL / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
