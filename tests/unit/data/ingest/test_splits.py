"""Divisions are complete, fixed, and of the sizes that were asked for."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_models.data.errors import DataRefused
from vae_models.data.ingest import names, splits
from vae_models.data.ingest.splits import TEST, TRAIN, VAL

parts = st.integers(1, 98).flatmap(lambda val: st.integers(1, 99 - val).map(lambda test: (val, test)))


@given(count=st.integers(3, 3000), chosen=parts)
def test_every_datum_is_in_one_split_and_none_is_empty(count: int, chosen: tuple[int, int]) -> None:
    val, test = (part / 100 for part in chosen)
    division = splits.by_fraction(count, (1 - val - test, val, test))
    counts = division.counts
    assert sum(counts.values()) == count
    assert min(counts.values()) >= 1
    assert abs(counts["test"] - count * test) <= 1 or counts["train"] == 1
    for number, split in enumerate(("train", "val", "test")):
        rows = division.rows[division.of == number]
        np.testing.assert_array_equal(rows, np.arange(counts[split]))  # type: ignore[index]
    np.testing.assert_array_equal(splits.by_fraction(count, (1 - val - test, val, test)).of, division.of)


def test_the_permutation_is_the_one_of_the_published_sets() -> None:
    order = np.random.RandomState(0).permutation(1797)
    division = splits.by_fraction(1797, (0.8, 0.1, 0.1))
    assert (division.of[order[-180:]] == TEST).all()
    assert (division.of[order[-360:-180]] == VAL).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_three_data_are_the_least(count: int) -> None:
    with pytest.raises(DataRefused, match=f"there are {count} data"):
        splits.by_fraction(count, (0.8, 0.1, 0.1))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["train/a", "val/b", "test/c"], [TRAIN, VAL, TEST]),
        (["Training/a", "Valid/b", "TEST/c"], [TRAIN, VAL, TEST]),
        (["train/a", "dev/b", "test/c"], [TRAIN, VAL, TEST]),
        (["car/a", "train/b", "plane/c"], None),  # a class of vehicles
        (["a", "b", "c"], None),
        (["val/a", "test/b", "test/c"], None),
    ],
)
def test_folders_of_splits_are_told_from_classes(listed: list[str], expected: list[int] | None) -> None:
    found = splits.by_folders(listed)
    assert (None if found is None else found[0].of.tolist()) == expected


@given(
    st.lists(st.text(string.ascii_letters + "ä,; 1.", min_size=1, max_size=8), min_size=3, max_size=20, unique=True),
    st.data(),
)
def test_a_list_is_followed_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, stems: list[str], data: st.DataObject
) -> None:
    listed = [f"{stem.strip()}x{at}.png" for at, stem in enumerate(stems)]
    words = ["train", "val", "test"] + [data.draw(st.sampled_from(["train", "valid", "2", "TEST"])) for _ in listed[3:]]
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    separator = data.draw(st.sampled_from([",", "\t", " "]))
    path = tmp_path_factory.mktemp("list") / "list.csv"
    path.write_bytes(
        newline.join(f"{name}{separator}{word}" for name, word in zip(listed, words, strict=True)).encode()
    )
    numbers = {"train": TRAIN, "val": VAL, "valid": VAL, "test": TEST, "TEST": TEST, "2": TEST}
    assert splits.by_file(path, listed).of.tolist() == [numbers[word] for word in words]


@given(st.lists(st.text(alphabet="ab01234 ", max_size=6)))
def test_natural_order_is_a_total_order_in_which_numbers_are_numbers(listed: list[str]) -> None:
    assert len({names.natural(name) for name in listed}) == len(set(listed))
    assert sorted(["class 10", "class 9", "class 1"], key=names.natural) == ["class 1", "class 9", "class 10"]


def test_names_that_are_no_utf8_are_shown(tmp_path: Path) -> None:
    (tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape")).write_bytes(b"")
    (name,) = (file for file, _ in names.walk(tmp_path).files)
    assert names.shown(name) == "caf\\xe9.png"
