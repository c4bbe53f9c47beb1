"""A file of bytes in the cache that is made once, whole or not at all, with how it was made beside it.

<cache>/.../NAME.uint8   the bytes
<cache>/.../NAME.json    their SHA-256, and what the maker says of them; written last
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_models.data.fetch import Meter, ProgressCallback, check_room, locked, writing


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is written. blocks: the bytes, in order; made: what the manifest says, asked for when they are over."""

    blocks: Iterator[bytes]
    made: Callable[[], dict[str, Any]]


def manifest_of(path: Path) -> Path:
    """Return the manifest's path beside the file of bytes."""
    return path.with_suffix(".json")


def written_once(
    path: Path,
    content: Callable[[], AbstractContextManager[Content]],
    *,
    total: int,
    what: str,
    progress: ProgressCallback | None,
) -> None:
    """Write the file and its manifest where they are not there: one process does, while others wait.

    content: called when they are to be written; total: bytes; what: is done, for people

    Raise DataError where the cache cannot be written, or has no room, and what `content` raises.
    """
    if manifest_of(path).exists():
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(path.name + ".lock")):
        if not manifest_of(path).exists():  # another process may have written it while this one waited
            with content() as given:
                _write(path, given, Meter(what, "", 0, total, progress), total)


def _write(path: Path, content: Content, meter: Meter, total: int) -> None:
    part, digest, done = path.with_suffix(".part"), hashlib.sha256(), 0
    check_room(path.parent, total, meter.name)
    with writing(part):
        file = part.open("wb")
    with file:
        for block in content.blocks:
            digest.update(block)
            with writing(part):
                file.write(block)
            done += len(block)
            meter.report(done, last=done == total)
        with writing(part):
            file.flush()
            os.fsync(file.fileno())
    with writing(path):
        os.replace(part, path)
        draft = manifest_of(path).with_suffix(".json.part")
        draft.write_text(json.dumps({**content.made(), "sha256": digest.hexdigest()}, indent=1))
        os.replace(draft, manifest_of(path))
