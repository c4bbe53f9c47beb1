"""A measure: the worst element of a datum."""

from __future__ import annotations

from vae_models.measures import Quantity


def worst_error(trace):
    """max_i |x_i - E[x_i|z]|, [batch], in units of x."""
    return (trace.target - trace.mean).abs().flatten(1).amax(1)


WORST = Quantity(
    name="worst_error", unit="units of x", mode="min", of=worst_error, summary="the worst element of a datum"
)
