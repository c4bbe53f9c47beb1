"""The papers' searches by name: one study each. Importing this loads no torch.

Searches of installed packages come with them: an entry point `search` of the group `vaesvc.parts`, whose value is a
`Search` or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.searches.search import Search
from vae_models.parts import Seam

__all__ = ["SEARCHES", "Search", "catalogue"]


def _wrong(part: Any) -> str | None:
    if not isinstance(part, Search):
        return f"{part!r} is no Search: make it with tuning.searches.Search"
    if not part.name.startswith("searches/"):
        return "the name of a search begins with searches/, and so is told from a recipe's"
    return None if callable(part.build) else "its build is not a function that returns a StudyConfig"


SEARCHES: Seam[Search] = Seam(
    "search",
    [f"tuning.searches.{module}:SEARCHES" for module in ("mr_vae", "comparisons")],
    check=_wrong,
    summary="a study by name",
)


def catalogue() -> Mapping[str, Search]:
    """Return every search by its name."""
    return SEARCHES.all()
