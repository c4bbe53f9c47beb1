"""--array as it is written: its numbers, its limit, and what each of its jobs changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.array import overrides_of, read, specs
from service.errors import UsageError
from service.kinds.train.spec import resolve


@pytest.mark.parametrize(
    ("text", "indices", "at_most"),
    [("0-3", (0, 1, 2, 3), None), ("7", (7,), None), ("0-1,5,5-6%2", (0, 1, 5, 6), 2), ("9999%10000", (9999,), 10_000)],
)
def test_numbers_and_limit(text: str, indices: tuple[int, ...], at_most: int | None) -> None:
    range_ = read(text)
    assert (range_.indices, range_.at_most) == (indices, at_most)


@pytest.mark.parametrize("text", ["", "a", "1-", "0-9%0", "0-9%", "0-9%x", "-3", "9-0", "10000", "0-99999", "1,,2"])
def test_what_is_no_array_says_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="--array"):
        read(text)


def test_each_job_takes_its_line_and_its_number(tmp_path: Path) -> None:
    lines = tmp_path / "rates.txt"
    lines.write_text("# rates\noptimizer.lr=0.1 seed={index}\n\noptimizer.lr=0.2 notes='two words'\n")
    assert overrides_of(read("0-1"), lines, ["steps=9"]) == {
        0: ["steps=9", "optimizer.lr=0.1", "seed=0"], 1: ["steps=9", "optimizer.lr=0.2", "notes=two words"],
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"has no line 2 .*; it has 2"):
        overrides_of(read("0-2"), lines, [])
    with pytest.raises(UsageError, match="all of these jobs would be the same"):
        overrides_of(read("0-2"), None, ["steps=9"])
    with pytest.raises(UsageError, match="nosuch cannot be read"):
        overrides_of(read("0"), tmp_path / "nosuch", [])


def test_the_jobs_are_versions_of_one_model_and_a_key_names_one_array() -> None:
    made = specs(read("3-4%1"), lambda index: resolve("digits/beta-vae-mlp", [f"seed={index}"]), "k")
    assert [spec.name for spec in made] == ["digits/beta-vae-mlp/3", "digits/beta-vae-mlp/4"]
    assert {spec.register_as for spec in made} == {"digits-beta-vae-mlp"}
    assert [(spec.array.index, spec.array.size, spec.array.at_most) for spec in made if spec.array] == [
        (3, 2, 1), (4, 2, 1),
    ]  # fmt: skip
    again, other = (specs(read("3"), lambda _: resolve("digits/beta-vae-mlp"), key) for key in ("k", None))
    assert again[0].array is not None
    assert made[0].array is not None
    assert other[0].array is not None
    assert again[0].array.id == made[0].array.id != other[0].array.id
