"""Names of users' own sets, while a specification is being read.

A specification has `data.name: photos`; which set that is depends on where it is read: in a service, or on a machine
with names of its own. So the reader provides the lookup, and the specification has digest and facts from then on:

    with named.known(lookup):
        config = DataConfig(name="photos")  # digest and facts are filled in
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vae_models.data.spec import DataSpec

Lookup = Callable[[str], DataSpec]  # name -> facts with the digest; ValueError says what is wrong with the name

_LOOKUP: ContextVar[Lookup | None] = ContextVar("lookup", default=None)


@contextmanager
def known(lookup: Lookup) -> Iterator[None]:
    """Ask `lookup` for names that no source has, inside the context; once for each name."""
    answers: dict[str, DataSpec | ValueError] = {}

    def once(name: str) -> DataSpec:
        if name not in answers:
            try:
                answers[name] = lookup(name)
            except ValueError as error:
                answers[name] = error
        answer = answers[name]
        if isinstance(answer, ValueError):
            raise answer
        return answer

    token = _LOOKUP.set(once)
    try:
        yield
    finally:
        _LOOKUP.reset(token)


def find(name: str) -> DataSpec | None:
    """Return the facts of the set that `name` stands for, with its digest; None where there is no lookup.

    Raise ValueError for an unknown name.
    """
    lookup = _LOOKUP.get()
    return None if lookup is None else lookup(name)
