"""Whether a package's dependencies are met by what is installed here: nothing is installed for it, anywhere."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from service.code.wheel import CodeError, Wheel


def check(wheel: Wheel) -> None:
    """Raise CodeError naming every dependency that is not met here."""
    _check(f"{wheel.name} {wheel.version}", "here", wheel.requires, wheel.requires_python)


def check_on_path(name: str) -> None:
    """Raise CodeError, as `check` does, for a package that is on the path already, of a job's process on the
    cluster."""
    distribution = importlib.metadata.distribution(name)
    needed = next(iter(distribution.metadata.get_all("Requires-Python") or ()), None)
    _check(f"{name} {distribution.version}", "on this node of the cluster", distribution.requires or (), needed)


def _check(package: str, where: str, requires: Sequence[str], requires_python: str | None) -> None:
    missing = [why for line in requires if (why := _unmet(line)) is not None]
    if (why := _python(requires_python)) is not None:
        missing.insert(0, why)
    if missing:
        raise CodeError(
            f"{package} cannot be imported {where}: it needs {'; '.join(missing)}. Nothing is "
            "installed for a job: what it needs has to be in the environment that vaesvc is in, on every node"
        )


def installed(names: Sequence[str]) -> dict[str, str]:
    """Return name -> version, of the packages that are installed here."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _unmet(line: str) -> str | None:
    try:
        needed = Requirement(line)
    except InvalidRequirement as error:
        raise CodeError(f"the dependency {line[:200]!r} is not understood: {str(error).splitlines()[0]}") from None
    if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
        return None
    version = installed([needed.name]).get(needed.name)
    if version is None:
        return f"{needed.name}{needed.specifier}, which is not installed"
    if not needed.specifier.contains(version, prereleases=True):
        return f"{needed.name}{needed.specifier}, and {version} is installed"
    return None


def _python(needed: str | None) -> str | None:
    if needed is None:
        return None
    try:
        fits = SpecifierSet(needed).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:
        raise CodeError(f"Requires-Python {needed[:100]!r} is not understood") from None
    return None if fits else f"Python {needed}, and this is {platform.python_version()}"
