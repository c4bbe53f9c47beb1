"""Which model the spec of an evaluation means, looked up in the service: exactly, verified, and the asker's to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.kinds.evaluate.spec import EvaluateSpec, check
from service.kinds.lookup import look_up

if TYPE_CHECKING:
    from service.kinds.house import House


def settle(spec: EvaluateSpec, house: House) -> EvaluateSpec:
    """Return the spec with the model that it means, its configuration, and the package of own code that it needs.

    A spec that names the model exactly already is taken by its word, if the service has just that. Raises UsageError
    or NotFoundError where there is no such model, UntrustedError where it is not what was committed or signed.
    """
    meant = look_up(spec.of, house, known=spec.model, code=spec.code)
    whole = spec.model_copy(update={"model": meant.model, "train": meant.config, "code": meant.code})
    check(whole)
    return whole
