"""What is known of a data set before any of it is read: the facts that a model, a batch and a table need.

Facts are cheap, torch-free, and travel in a resolved specification, so that it can be checked anywhere and a run can be
repeated: whoever has them needs neither the set nor its source.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.strict import Strict

Axis = Literal["channel", "height", "width", "feature", "time"]

# bits:   0 or 1. Stored as the bytes 0 and 255
# bytes:  the levels k/255 of a byte k, which is what is stored
# unit:   real numbers in [0, 1]
# reals:  finite real numbers, unbounded, in the unit that the source states
# tokens: whole numbers 0 .. vocabulary - 1
Support = Literal["bits", "bytes", "unit", "reals", "tokens"]

AXES: tuple[Axis, ...] = ("channel", "height", "width")  # of an image
MOST_ELEMENTS = 2**32  # of a datum

Size = Annotated[int, Field(ge=1, le=bounds.DATA)]
Length = Annotated[int, Field(ge=1, le=MOST_ELEMENTS)]
Text = Annotated[str, Field(min_length=1, max_length=bounds.TEXT)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]


class LabelSpec(Strict):
    """What belongs to each datum beside x: a class (whole numbers) or a quantity, or several.

    name: "digit", "class", "angle", or one for each column
    unit: of a quantity, "rad"; none of a class
    classes: names of the classes 0, 1, ...; none: they have none
    """

    name: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=bounds.LISTED)]
    unit: Text | None = None
    classes: tuple[Text, ...] | None = Field(default=None, max_length=10_000)


class DataSpec(Strict):
    """The facts of one data set.

    shape:      of a datum, without the number of data: (1, 28, 28), (50,), (16, 1, 64, 64)
    axes:       what each dimension of `shape` is: ("channel", "height", "width"), ("feature",), ("time",),
                ("time", "channel", "height", "width")
    support:    which values x has
    sizes:      how many data train, val and test have
    lengths:    whether each datum has a length of its own along "time", of which `shape` has the longest; beyond it
                there is padding, which no likelihood may count
    vocabulary: number of tokens, of `tokens` alone
    digest:     SHA-256 of the canonical form, where the set has one
    """

    whole: ClassVar[bool] = True  # filled in, or given at once: nobody writes one of its fields alone

    shape: tuple[Length, ...] = Field(min_length=1, max_length=6)
    axes: tuple[Axis, ...] = Field(min_length=1, max_length=6)
    support: Support
    sizes: tuple[Size, Size, Size]
    labels: LabelSpec | None = None
    lengths: bool = False
    vocabulary: int | None = Field(default=None, ge=2, le=2**31 - 1)
    digest: Digest | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DataSpec:
        if len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {list(self.axes)} must name each of the {len(self.shape)} dimensions of shape once")
        if math.prod(self.shape) > MOST_ELEMENTS:
            raise ValueError(f"shape {list(self.shape)} has more than {MOST_ELEMENTS:,} elements")
        if self.lengths and "time" not in self.axes:
            raise ValueError("lengths are along the axis time, which there is not")
        if (self.vocabulary is None) == (self.support == "tokens"):
            raise ValueError("vocabulary is the number of tokens: given with support tokens, and only there")
        return self

    @property
    def image(self) -> bool:
        """Return whether a datum is (channels, height, width)."""
        return self.axes == AXES

    @property
    def elements(self) -> int:
        """Return the number of elements of a datum."""
        return math.prod(self.shape)
