"""Names of data sets where a spec is read: on the command line, which asks the API, and in the API itself.

A resolved spec holds digest and facts. Whoever sends one resolved is believed neither: the set must be here, whole, the
sender's to see, and have these facts.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.data.records import NamedSet, SetState
from service.errors import UsageError
from service.mistakes import listed
from vae_models.data.named import Lookup
from vae_models.data.sources import SOURCES
from vae_models.data.spec import DataSpec

if TYPE_CHECKING:
    from service.queue.data_sets import DataSets


def lookup(names: Callable[[], Sequence[NamedSet]]) -> Lookup:
    """Return a lookup among `names`, which are asked for when the first name is."""
    known: dict[str, NamedSet] | None = None

    def find(name: str) -> DataSpec:
        nonlocal known
        if known is None:
            known = {each.name: each for each in names()}
        if name not in known:
            raise ValueError(unknown(name, known))
        return known[name].facts

    return find


def check_free(name: str) -> None:
    """Raise UsageError for a name that a source has: that of a published set, or of an installed package."""
    if name in SOURCES.all():
        raise UsageError(f"{name} is a published data set's name: choose another, such as my-{name}")


def unknown(name: str, names: Collection[str]) -> str:
    """Return the message for the name of a set that does not exist: the nearest, and how to add one."""
    if SOURCES.broken_entry(name) is not None:
        return f"there is no data set {name!r}{SOURCES.hint(name)}"
    near = difflib.get_close_matches(name, [*names, *SOURCES.kinds()], n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"there is no data set {name[:100]!r}; {meant}Your own: vaesvc data list; vaesvc data add NAME PATH "
        f"adds one. Published: {', '.join(SOURCES.kinds())}"
    )


def check(spec: Mapping[str, Any], sets: DataSets, may_see: Callable[[str], bool]) -> None:
    """Compare the sets that a resolved spec names with those that are stored. Raises UsageError.

    may_see: whether the sender may use the set of this digest.
    """
    problems: list[str] = []
    for path, fields in _mappings(spec):
        if "data.name" in fields:
            problems += [
                f"{path}data.name: {name!r} is a set of your own, and a study's trials are not asked for names: vary "
                "whole mappings, data: [{name: ..., digest: ..., facts: ...}, ...]"
                for name in _texts(fields["data.name"])
                if name not in SOURCES.all()
            ]
        data = fields.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("digest"), str):
            continue
        stored = sets.stored(data["digest"])
        if stored is None or stored.state is not SetState.COMPLETE or not may_see(stored.digest):
            problems.append(
                f"{path}data.digest: no data set {data['digest']} is stored here: add it with vaesvc data add NAME PATH"
            )
            continue
        plain = stored.facts.model_copy(update={"digest": None}).model_dump(mode="json")  # which stands beside them
        if data.get("facts") != plain:
            problems.append(
                f"{path}data.facts: are not those of {data['digest']}. Leave facts and digest out: they are filled in"
            )
    if problems:
        raise UsageError(listed(problems))


def _texts(domain: Any) -> Iterator[str]:
    """Yield the texts among a domain's values, as it is in a spec: a list, or a mapping with `values`."""
    values = domain.get("values") if isinstance(domain, Mapping) else domain
    yield from (text for text in values or () if isinstance(text, str))


def _mappings(spec: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return every mapping in a spec that is data, with what the paths of its names begin with."""
    mappings: list[tuple[str, dict[str, Any]]] = []
    within: list[tuple[str, Any]] = [("", spec)]
    for path, value in within:  # which grows
        if isinstance(value, dict):
            mappings.append((path, value))
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        within += [(f"{path}{name}.", part) for name, part in parts if isinstance(part, (dict, list))]
    return mappings
