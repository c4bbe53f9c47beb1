"""A small set of sentences of differing lengths."""

from __future__ import annotations

from typing import Any

import torch

from vae_models.data.records import Dataset, Split
from vae_models.data.tokens import BOS, EOS, PAD

NAME, LONGEST, VOCABULARY = "sentences", 9, 30  # tokens of the longest, <bos> and <eos> with them; all that there are


def config(sizes: tuple[int, int, int], **choices: bool) -> dict[str, Any]:
    """Return the data of a configuration. choices: of its other fields."""
    facts = {"shape": (LONGEST,), "axes": ("time",), "support": "tokens", "sizes": sizes}
    facts |= {"lengths": True, "vocabulary": VOCABULARY}
    return {"name": NAME, "digest": "0" * 64, "facts": facts, **choices}


def dataset(sizes: tuple[int, int, int]) -> Dataset:
    """Return splits of these sizes: sentences that begin and end, of 3 tokens or more, rising by ones."""
    generator = torch.Generator().manual_seed(5)
    count, longest = sum(sizes), LONGEST
    lengths = torch.randint(3, longest + 1, (count,), generator=generator)
    first, places = torch.randint(4, VOCABULARY - longest, (count, 1), generator=generator), torch.arange(longest)
    x = (first + places).where(places > 0, BOS).where(places != lengths[:, None] - 1, EOS)
    x = x.where(places < lengths[:, None], PAD).int()
    train, val, test = (
        Split(x=part, lengths=own) for part, own in zip(x.split(sizes), lengths.split(sizes), strict=True)
    )
    return Dataset(name=NAME, train=train, val=val, test=test, shape=(longest,))
