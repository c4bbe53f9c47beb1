"""A searcher: points that fill the space evenly (Halton 1960), of which more leave the first ones as they are."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tuning.searchers.draw import Draw
from tuning.searchers.specs import SearcherSpec

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def radical_inverse(number: int, base: int) -> float:
    """The digits of `number` behind the point instead of before it, in (0, 1) for number > 0."""
    value, place = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        place /= base
        value += digit * place
    return value


class HaltonSearch(SearcherSpec):
    """`trials` points of the Halton sequence, a prime for each path."""

    more: ClassVar[bool] = True
    kind: Literal["halton"] = "halton"
    trials: int = Field(ge=1, le=10_000)

    def draws(self, space, goal, value, over):
        """Of each number its own point."""
        for number in range(1, self.trials + 1):
            point = {
                path: domain.at(radical_inverse(number, prime))
                for (path, domain), prime in zip(sorted(space.items()), PRIMES, strict=False)
            }
            yield Draw(assignment=point)

    def planned(self, space):
        return self.trials
