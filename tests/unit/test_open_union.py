"""A field that takes parts that came later, and those that only a job's own code knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from vae_models.open_union import Foreign, OpenUnion, foreign_allowed, has_foreign
from vae_models.strict import Strict


class Ours(Strict):
    kind: Literal["ours"] = "ours"
    width: int = 1


class Other(Strict):
    kind: Literal["other"] = "other"


class Later(Strict):
    kind: Literal["later"] = "later"
    depth: int = 3


class Parts:
    """As a seam has them: its own, and those that have come later."""

    def __init__(self, *ours: type[Strict]) -> None:
        self.ours = {part.model_fields["kind"].default: part for part in ours}

    def all(self) -> Mapping[str, type[Strict]]:
        return self.ours | LATE

    def find(self, kind: str) -> type[Strict] | None:
        return self.all().get(kind)

    def broken_entry(self, kind: str) -> str | None:
        return "its module is gone" if kind == "lost" else None


LATE: dict[str, type[Strict]] = {}


class Holder(Strict):
    part: Annotated[Ours | Other, Field(discriminator="kind"), OpenUnion((Ours, Other), Parts(Ours, Other))] = Ours()
    several: tuple[Annotated[Ours, OpenUnion((Ours,), Parts(Ours))], ...] = ()


@pytest.fixture
def later():
    LATE["later"] = Later
    yield
    LATE.clear()


def refused(given):
    with pytest.raises(ValidationError) as error:
        Holder.model_validate(given)
    return error.value.errors()[0]


def test_what_is_known_is_read_as_by_a_plain_union():
    assert Holder.model_validate({"part": {"kind": "other"}}).part == Other()
    assert refused({"part": {"kind": "ours", "width": "a"}})["loc"] == ("part", "ours", "width")
    assert "its module is gone" in refused({"part": {"kind": "lost"}})["msg"]
    assert "'ours', 'other'" in refused({"part": {"kind": "none"}})["msg"]
    assert refused({"part": {}})["type"] == "union_tag_not_found"
    assert "Later" not in str(Holder.model_json_schema())


def test_a_part_that_came_after_the_class_was_made_is_taken(later):
    found = Holder.model_validate({"part": {"kind": "later", "depth": 4}, "several": [{"kind": "later"}]})
    assert found == Holder(part=Later(depth=4), several=(Later(),))
    assert Holder.model_validate_json(found.model_dump_json()) == found
    assert found.model_dump(exclude_unset=True)["several"] == ({"kind": "later"},)
    assert '"later"' in json.dumps(Holder.model_json_schema())
    assert "'later'" in refused({"part": {"kind": "none"}})["msg"]
    assert refused({"part": {"kind": "later", "wide": 1}})["loc"] == ("part", "wide")


def test_a_foreign_part_is_refused_unless_it_is_allowed_and_then_kept_as_it_is():
    plain = {"part": {"kind": "mine", "deep": {"list": [1, 2.5, "a"]}}, "several": [{"kind": "mine"}]}
    refused(plain)
    with foreign_allowed():
        found = Holder.model_validate(plain)
        assert isinstance(found.part, Foreign)
        assert has_foreign(found)
        assert found.model_dump(mode="json") == plain
        assert Holder.model_validate_json(found.model_dump_json()) == found
        assert refused({"part": {"kind": "ours", "width": "a"}})["loc"] == ("part", "ours", "width")
    refused(plain)
    assert not has_foreign(Holder())


def test_a_foreign_part_is_read_for_what_it_is_where_it_is_known(later):
    assert Holder(part=Foreign(kind="later", depth=5)).part == Later(depth=5)
