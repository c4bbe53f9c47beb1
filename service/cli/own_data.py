"""--data of submit, run and study run: a set of one's own in place of the recipe's, and whom to ask for names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, data_service

if TYPE_CHECKING:
    from service.data.fetch import Addresses
    from service.data.records import NamedSet
    from vae_models.data.cache import Lease
    from vae_models.data.named import Lookup
    from vae_models.data.spec import DataSpec

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME",
        help="This data set in place of the recipe's: your own (`vaesvc data list`) or a published one.",
        show_default=False,
    ),
]
DataHere = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="This data set in place of the recipe's: your own, a published one, or what lies at PATH.",
        show_default=False,
    ),
]


def changes(data: str | None, overrides: Sequence[str] | None) -> list[str]:
    """Return the overrides with those of --data before them: what the recipe does to its own data is left out."""
    if data is None:
        return list(overrides or ())
    return [f"data.name={data}", "data.binarize=none", "data.noise={kind: none}", *(overrides or ())]


@contextmanager
def of_the_service() -> Iterator[None]:
    """Look names up in the service, inside the block, if there is one: at the first that no published set has."""
    from service.data import names
    from vae_models.data import named

    with named.known(_service_names() if data_service.configured() else names.lookup(tuple)):
        yield


@contextmanager
def of_this_machine(data: str | None) -> Iterator[str | None]:
    """Look names up on this machine, then in the service, inside the block. Yields the name to use for `data`.

    data: a name, or a path, which is decoded into the cache first.
    """
    from vae_models.data import named

    known: dict[str, DataSpec] = {}
    name = data
    if data is not None and _is_path(data):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).resolve().stem).lstrip("._-")[:100] or "data"
        known[name] = _decoded(name, Path(data))
    with named.known(_names_here(known)):
        yield name


def _is_path(data: str) -> bool:
    """Return whether it is a path: it has a separator, or exists here and is no known set's name."""
    from vae_models.data.sources import SOURCES

    return "/" in data or (Path(data).exists() and data not in SOURCES.all())


def _decoded(name: str, path: Path) -> DataSpec:
    from service.cli import data
    from vae_models.data.ingest import Options

    with data.mistakes():
        return data.decoded(name, path, Options(), point=False).spec


def _service_names() -> Lookup:
    from service.data import names

    def asked() -> list[NamedSet]:
        with connect.client() as client:
            return client.data.names()

    return names.lookup(asked)


def _names_here(decoded: dict[str, DataSpec]) -> Lookup:
    from service.cli.data import cache_dir
    from service.data import names
    from vae_models.data import own
    from vae_models.data.errors import DataError

    service = _service_names() if data_service.configured() else None

    def find(name: str) -> DataSpec:
        if name in decoded:
            return decoded[name]
        pointers = {pointer.name for pointer in own.pointers(cache_dir())}
        if name in pointers:
            try:
                return own.find(cache_dir(), name).spec
            except DataError as error:
                raise ValueError(str(error)) from error
        if service is not None:
            return service(name)
        raise ValueError(names.unknown(name, pointers))

    return find


@contextmanager
def fetched(name: str, digest: str | None) -> Iterator[Lease | None]:
    """Hold the set in this machine's cache inside the block: fetched from the service where it is missing."""
    if digest is None:
        yield None
        return
    from service.cli.data import cache_dir, mistakes
    from vae_models.data.cache import NodeCache, most_bytes_of_environment

    with mistakes():
        cache = NodeCache(cache_dir=cache_dir(), most_bytes=most_bytes_of_environment())
        there = (cache.folder / digest).is_dir()
        lease = cache.lease(digest, None if there or not data_service.configured() else _addresses(name))
    try:
        yield lease
    finally:
        lease.close()


def _addresses(name: str) -> Addresses:
    from service.data.fetch import Addresses

    with connect.client() as client:
        return Addresses(files=client.data.files(name))
