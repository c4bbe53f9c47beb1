"""Whether everything that a user's package names as parts was registered: all of it, or it is not used at all."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from service import parts_view
from service.code import requirements
from service.code.reference import present
from service.code.wheel import CodeError
from vae_models import parts


def check_job(spec: Mapping[str, Any]) -> None:
    """Check, in an attempt, before its spec is read, that this process has the job's package, whole, or none if it has
    none.

    spec: of the job, resolved. Raises CodeError; another attempt would end in the same way.
    """
    wanted = spec.get("code")
    if (None if wanted is None else wanted["digest"]) != present():
        raise CodeError(f"the job needs the package {wanted}, and this process has {present() or 'none'}")
    if wanted is not None:
        requirements.check_on_path(wanted["name"])
        check_parts(wanted["name"], wanted["version"])


def check_parts(name: str, version: str) -> None:
    """Load the parts of every seam. Raises CodeError naming each of this package's that is broken, and why."""
    package = f"{name} {version}"
    known = parts_view.seams()
    problems = [str(broken) for seam in known.values() for broken in seam.broken if broken.package == package]
    for entry in importlib.metadata.distribution(name).entry_points.select(group=parts.GROUP):
        seam = entry.name.partition(".")[0]
        if seam not in known:
            near = difflib.get_close_matches(seam, list(known), n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            problems.append(f"{entry.name} ({entry.value}): there is no seam {seam!r}; {meant}There are: "
                            f"{', '.join(sorted(known))}")  # fmt: skip
    if problems:
        raise CodeError(f"the package {package} cannot be used: " + "; ".join(problems))
