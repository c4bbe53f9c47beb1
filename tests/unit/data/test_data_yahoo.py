"""Documents a line in a file a split: the vocabulary of training, what is cut, what is missing."""

from __future__ import annotations

import pytest

from tests.unit.data.publishing import Publish, load, places_named
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.places import Places

TEXTS = {
    "train": b"a b a _UNK c\nb a a a a a a a a\n",
    "val": b"a z <unk>\n",
    "test": b"\xef\xbb\xbfb b b\r\nc\r\n",
}
FACTS = {"shape": (7,), "sizes": (2, 1, 2), "vocabulary": 6}


def test_lines_are_sentences_of_trainings_vocabulary(publish: Publish, places: Places) -> None:
    publish("yahoo", TEXTS, **FACTS)
    data = load("yahoo", places)
    assert data.vocabulary == ("<pad>", "<bos>", "<eos>", "<unk>", "a", "b")
    assert data.train.x.tolist() == [[1, 4, 5, 4, 3, 3, 2], [1, 5, 4, 4, 4, 4, 2]]  # of the second the first five
    assert data.val.x.tolist() == [[1, 4, 3, 3, 2, 0, 0]]
    assert data.test.x.tolist() == [[1, 5, 5, 5, 2, 0, 0], [1, 3, 2, 0, 0, 0, 0]]
    assert [split.lengths.tolist() for split in (data.train, data.val, data.test)] == [[7, 7], [5], [5, 3]]  # type: ignore[union-attr]


def test_another_number_of_lines_is_another_text(publish: Publish, places: Places) -> None:
    publish("yahoo", TEXTS, **{**FACTS, "sizes": (3, 1, 2)})
    with pytest.raises(DataCorrupt, match=r"yahoo\.train\.txt.*2 lines, expected 3"):
        load("yahoo", places)


def test_what_is_not_here_is_named_with_where_it_is_from(publish: Publish, places: Places) -> None:
    publish("yahoo", {"train": TEXTS["train"], "val": TEXTS["val"]}, **FACTS)
    with pytest.raises(DataMissing) as caught:
        load("yahoo", places)
    message = str(caught.value)
    assert "drive.google.com/file/d/13IsiffVjcQ" in message
    assert {path.rpartition("/")[2] for path in places_named(message)} == {"yahoo.test.txt"}
