"""What a model is asked for by name and settings: `perform(model, data, {"task": "encode"})`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vae_models.trained import checks
from vae_models.trained.params import PARAMS

if TYPE_CHECKING:
    from vae_models.trained.model import Trained


def perform(model: Trained, given: Any, params: Mapping[str, Any] | None = None) -> Any:
    """Return what the model makes of `given` by the task of `params`; without one, the reconstructions.

    reconstruct, encode, score  data -> [n, *shape]; {"mean", "std"}; {"elbo", "nll", "rate", "distortion"}
    decode                      latents [n, latent] -> [n, *shape]
    continue                    the beginnings of videos -> [n, frames, *frame]
    sample                      nothing is read of the input -> [count, *shape]
    interpolate                 data, each two of which are a pair -> [n / 2, steps, *shape]
    traverse                    data -> {"dimensions", "values", "means"}

    Raise ValueError for an unknown task or setting, and where the model's own methods do.
    """
    chosen = dict(params or {})
    if unknown := sorted(set(chosen) - set(PARAMS)):
        raise checks.Refused(f"params has {unknown[0]!r}, which is none: there are {', '.join(PARAMS)}")
    settings = {name: chosen.get(name, param.default) for name, param in PARAMS.items()}
    return TASKS[checks.one_of("task", settings["task"], TASKS)](model, given, settings)


def _reconstruct(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    return model.reconstruct(given, beta=settings["beta"])


def _encode(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    encoded = model.encode(given, beta=settings["beta"])
    return {"mean": encoded.mean} | ({} if encoded.std is None else {"std": encoded.std})


def _decode(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    return model.decode(given, beta=settings["beta"])


def _sample(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    names = ("sampler", "temperature", "seed", "form", "beta")
    return model.sample(settings["count"], **{name: settings[name] for name in names})


def _continue(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    return model.continued(given, **{name: settings[name] for name in ("frames", "form", "seed", "beta")})


def _score(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    return model.score(given, samples=settings["samples"], seed=settings["seed"], beta=settings["beta"])


def _interpolate(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    data = model.form.data_of(given)
    if len(data) % 2:
        raise checks.Refused(f"{len(data)} data given: interpolate takes pairs, the first of each with the second")
    return model.interpolate(
        data[::2],
        data[1::2],
        steps=settings["steps"],
        how=settings["how"],
        seed=settings["seed"],
        beta=settings["beta"],
    )


def _traverse(model: Trained, given: Any, settings: Mapping[str, Any]) -> Any:
    return model.traverse(given, top=settings["top"], steps=settings["steps"], beta=settings["beta"])._asdict()


TASKS: Mapping[str, Callable[[Trained, Any, Mapping[str, Any]], Any]] = {
    "reconstruct": _reconstruct,
    "encode": _encode,
    "decode": _decode,
    "sample": _sample,
    "continue": _continue,
    "score": _score,
    "interpolate": _interpolate,
    "traverse": _traverse,
}
