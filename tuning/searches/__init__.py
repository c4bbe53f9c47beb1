"""The papers' searches by name: one study each. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tuning.searches import comparisons, mr_vae
from tuning.searches.search import Search

__all__ = ["Search", "catalogue"]


@cache
def catalogue() -> Mapping[str, Search]:
    """Every search by its name."""
    searches = [*mr_vae.SEARCHES, *comparisons.SEARCHES]
    named = {search.name: search for search in searches}
    assert len(named) == len(searches), "two searches have one name"
    return MappingProxyType(named)
