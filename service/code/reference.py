"""Which package a job or a model needs, as its spec and its manifest say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from vae_models.strict import Strict

VARIABLE = "VAESVC_CODE"  # of the environment: the digest of the package that this process has

Digest = Annotated[str, Field(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")]


class CodeRef(Strict):
    """A user's package. The digest identifies it; name and version are for people.

    digest: SHA-256 of its canonical form (`service.code.wheel`)
    """

    digest: Digest
    name: str = Field(max_length=100, pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: str = Field(max_length=100, pattern=r"^[0-9A-Za-z.!+]+$")

    @property
    def filename(self) -> str:
        """Return the wheel's file name, as wheels are called."""
        return filename(self.name, self.version)

    def __str__(self) -> str:
        return f"{self.name} {self.version} (SHA-256 {self.digest[:12]}...)"


def present() -> str | None:
    """Return the digest of the package that this process has; None where it has none."""
    return os.environ.get(VARIABLE) or None


def absent(code: Any) -> bool:
    """Return whether a job has a package of its own (`code` of its spec, as data or not) that this process lacks."""
    digest = code.get("digest") if isinstance(code, Mapping) else getattr(code, "digest", None)
    return digest is not None and digest != present()


def filename(name: str, version: str) -> str:
    """Return NAME-VERSION-py3-none-any.whl."""
    from packaging.utils import canonicalize_name

    return f"{canonicalize_name(name).replace('-', '_')}-{version}-py3-none-any.whl"
