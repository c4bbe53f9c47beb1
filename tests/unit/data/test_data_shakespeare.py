"""Lines of plays as sentences: splits by speeches, the vocabulary of training, what is cut off."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vae_models.data.catalogue.text import SETS, TINY_SHAKESPEARE
from vae_models.data.errors import DataCorrupt
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.spec import DataSpec

SPEECHES = 40
LINES = 2  # of each


def published(tmp_path: Path, sizes: tuple[int, int, int]) -> tuple[Published, Places]:
    """A set of the same form, of a text of our own."""
    folder = tmp_path / "data" / "tinyshakespeare"
    folder.mkdir(parents=True)
    speeches = [f"ANNE:\nspeech {number},\nspeech speech!" for number in range(SPEECHES)]
    (folder / "input.txt").write_text("\n\n".join(speeches))
    facts = DataSpec(shape=(6,), axes=("time",), support="tokens", sizes=sizes, lengths=True, vocabulary=6)
    form = dataclasses.replace(TINY_SHAKESPEARE.forms[0], sha256=None, bytes=None)
    file = dataclasses.replace(TINY_SHAKESPEARE, forms=(form,), content=frozenset())
    real = next(each for each in SETS if each.name == "tinyshakespeare")
    made = dataclasses.replace(real, facts=facts, files={"text": file})
    return made, Places(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_lines_are_sentences_and_a_speech_is_in_one_split(tmp_path: Path) -> None:
    source, places = published(tmp_path, (72, 4, 4))
    data = source.load(places)
    assert data.vocabulary == ("<pad>", "<bos>", "<eos>", "<unk>", "speech", "!")  # of a tie the first by its letters
    assert data.train.x.shape == (72, 6)
    first, second = data.train.x[:2].tolist()
    assert first[0] == 1
    assert first[1:4] == [4, 3, 3]  # neither its number nor the comma is a frequent token
    assert second == [1, 4, 4, 5, 2, 0]
    assert data.train.lengths is not None
    assert data.train.lengths[1] == 5
    assert source.load(places).test.x.equal(data.test.x)


def test_another_number_of_lines_is_another_text(tmp_path: Path) -> None:
    source, places = published(tmp_path, (70, 6, 4))
    with pytest.raises(DataCorrupt, match=r"\(72, 4, 4\) lines in train, val and test, expected \(70, 6, 4\)"):
        source.load(places)
