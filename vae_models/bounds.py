"""The most that a specification may ask for: generous, and finite.

A number without a bound is a way to make a machine do endless work, or to take all of its memory, with a line of text.
No run of the literature comes near these bounds; each says what its family costs. Sums and products (a model's
weights, a step's outputs, a run's steps) have bounds of their own, in `compatibility`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

STEPS = 10**9  # optimizer steps: at a millisecond each, twelve days. A run's length, and every interval in steps
EPOCHS = 10**6  # passes over the data: a run's length, warm-ups, cycles
BATCH = 10**6  # data side by side: memory in proportion. The largest training split here has 202,599 images
WIDTH = 2**16  # units of a layer, dimensions of z: two such layers are 4.3e9 weights, 17 GB in float32
DEPTH = 128  # layers in a list: time in proportion, and gradients long vanished
CHANNELS = (
    2**11
)  # of a convolution: one of 5 x 5 from so many to as many is 1.0e8 weights, and some backbones double it
COMPONENTS = 2**14  # of a mixture: each is a pseudo-input of the data's size, or three outputs per element
SAMPLES = 10**5  # posterior samples per datum: a step's memory in proportion; the largest that is published is 5,000
DATA = 10**9  # data of a split
LISTED = 1_000  # values in a list that each cost an evaluation or a training: betas, seeds
KEPT = 1_000  # checkpoints beside the last: storage in proportion
REAL = 1e30  # a weight, a rate, a scale: its size costs nothing, but beyond float32's 3.4e38 a product is infinite
SEED = 2**63 - 1  # what a generator takes
TEXT = 200  # characters of a name
MEASURES = 20  # that an evaluation is asked for beside its own

WEIGHTS = 2 * 10**9  # parameters of a model: with gradients and Adam's two moments 32 GB in float32
OUTPUTS = 2**36  # numbers that a decoder gives in one step, over all workers: 275 GB in float32

Width = Annotated[int, Field(ge=1, le=WIDTH)]
Channels = Annotated[int, Field(ge=1, le=CHANNELS)]
Side = Annotated[int, Field(ge=1, le=WIDTH)]  # of an image, pixels
Name = Annotated[str, Field(min_length=1, max_length=TEXT)]
Seed = Annotated[int, Field(ge=0, le=SEED)]
PositiveReal = Annotated[float, Field(gt=0, le=REAL)]
