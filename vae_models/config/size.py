"""How large a configuration is, from its numbers alone: no part is built, and torch is not loaded.

Widths multiply, so bounds on each of them bound nothing; a model too large for any machine should be refused when its
specification is read, and not by the memory of the machine that builds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_models.config.run import RunConfig


def weights(config: RunConfig) -> int:
    """Return about how many numbers of the model are trained: of fully connected parts exactly, of convolutions to a
    factor of a few, of published nets (up to 1.4e8) only what the size of the latent space adds.
    """
    return config.model.weights(config.data.facts.shape)


def outputs(config: RunConfig) -> int:
    """Return how many numbers the decoder gives in one step, over all workers."""
    of_datum = config.objective.samples_per_datum() * config.model.outputs(config.data.facts.shape)
    return config.batch_size * of_datum


def steps(config: RunConfig) -> float:
    """Return the optimizer steps of a run, whichever way its length is given."""
    if config.steps is not None:
        return config.steps
    return (config.epochs or 0.0) * config.data.facts.sizes[0] / config.batch_size
