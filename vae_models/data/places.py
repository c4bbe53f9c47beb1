"""Where files of data sets are looked for, and where they are written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vae_models.data.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Places:
    """`data_dir` is only read; files are written under `cache_dir` alone."""

    data_dir: Path | None
    cache_dir: Path

    @classmethod
    def from_environment(cls) -> Places:
        """Return the places that the environment sets.
        Raise DataError where a folder is below a home that this user lacks.
        """
        data = os.environ.get("VAESVC_DATA_DIR")
        cache = os.environ.get("VAESVC_CACHE_DIR") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/vaesvc"
        return cls(data_dir=_expanded(data) if data else None, cache_dir=_expanded(cache))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: {error}; set VAESVC_CACHE_DIR and VAESVC_DATA_DIR to whole paths") from error
