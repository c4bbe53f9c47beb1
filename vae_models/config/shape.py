"""Which configurations have parameters of the same shapes, and which may be trained by the same steps."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from vae_models.config.train import TrainConfig
from vae_models.strict import Strict, parts_within


def shape_of(config: TrainConfig) -> str:
    """Return the text that is equal for configurations whose weights have the same shapes and meaning.

    They are alike but for the numbers that their parts declare (`Strict.fusible`), seed, optimizer, schedule, beta's
    numbers, length, evaluation and checkpoints.
    """
    return _key(config, zeros=False)


def weights_of(config: TrainConfig) -> str:
    """Return the text that is equal for configurations whose models have the same parameters for data of one shape,
    whatever they are trained on, how, and by which numbers."""
    return repr([tuple(config.data.facts.shape), _without_numbers(config.model, zeros=False)])


def stack_of(config: TrainConfig) -> str:
    """Return the text that is equal for configurations that may be one stack: of one shape, with the same numbers at 0.

    Where a number is 0, a part may leave out the term that it multiplies: that is another step.
    """
    return _key(config, zeros=True)


def reason_against(config: TrainConfig) -> str | None:
    """Return why runs of this configuration are trained in turn, by the part that demands it;
    None if they can be fused.
    """
    if config.recompute:
        return "recompute keeps tensors by hooks, which torch.func.vmap has not"
    if config.compile != "off":
        return "compile step compiles the step of one configuration"
    reasons = (part.against_lanes() for root in (config.model, config.objective) for part in parts_within(root))
    reason = next((reason for reason in reasons if reason is not None), None)
    if reason is None and config.shortest is not None:
        return "the batches of each seed are cut to their own longest datum: set data.trim to false to fuse them"
    return reason


def _key(config: TrainConfig, *, zeros: bool) -> str:
    data, beta = config.determining()["data"], config.beta.kind
    model, objective = _without_numbers(config.model, zeros), _without_numbers(config.objective, zeros)
    step = (
        [config.precision, config.micro_batch, config.recompute, config.compile, config.graph] if zeros else []
    )  # weights of one shape go on at another precision
    return repr([data, config.batch_size, config.dtype, beta, model, objective, *step])


def _without_numbers(part: BaseModel, zeros: bool) -> dict[str, Any]:
    fusible = part.fusible if isinstance(part, Strict) else ()
    key: dict[str, Any] = {}
    for name, value in part:
        if isinstance(value, BaseModel):
            key[name] = _without_numbers(value, zeros)
        elif isinstance(value, tuple):
            key[name] = [_without_numbers(each, zeros) if isinstance(each, BaseModel) else each for each in value]
        elif name in fusible and isinstance(value, int | float):
            key[name] = "a number" if value or not zeros else "zero"
        else:
            key[name] = value
    return key
