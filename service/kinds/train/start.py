"""--from: the weights that a run starts from, looked up in the service, verified, and of the same architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from service.errors import UsageError
from service.kinds.lookup import look_up
from service.kinds.train.spec import TrainSpec
from service.mistakes import listed
from vae_models.config.shape import weights_of
from vae_models.config.train import TrainConfig

if TYPE_CHECKING:
    from service.kinds.house import House


def settle(spec: TrainSpec, house: House) -> TrainSpec:
    """Return the spec with the model that `start_from` means, exactly, and the package of own code that it takes.

    Raises UsageError or NotFoundError where there is no such model or it is another architecture, UntrustedError where
    it is not what was committed or signed.
    """
    start = spec.start_from
    if start is None:
        return spec
    meant = look_up(start.of, house, known=start.model, code=spec.code)
    if weights_of(meant.config) != weights_of(spec.train):
        different = listed([f"{path}: {there} there, {here} here" for path, there, here in _differ(meant.config, spec)])
        raise UsageError(f"start_from: {start.of} is of another architecture, its weights do not fit:\n{different}")
    whole = start.model_copy(update={"model": meant.model})
    return spec.model_copy(update={"start_from": whole, "code": meant.code})


def _differ(config: TrainConfig, spec: TrainSpec) -> Iterator[tuple[str, Any, Any]]:
    there, here = (
        {"data.shape": list(each.data.facts.shape), **dict(_flat(each.model.model_dump(mode="json"), "model"))}
        for each in (config, spec.train)
    )
    for path in dict.fromkeys([*there, *here]):
        if there.get(path) != here.get(path):
            yield path, there.get(path), here.get(path)


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}")
    else:
        yield path, value
