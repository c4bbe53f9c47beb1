"""What a user of trained models imports.

import vaesvc

model = vaesvc.load("digits-beta-vae-mlp@best")
reconstructions = model.predict(images)  # E[x|z] at the posterior's mean: [n, *shape of a datum]
mean, std = model.encode(images)  # q(z|x); also decode, sample, score, interpolate, traverse: vae_models.trained

A model that was trained with a user's own package says so, and is loaded only by who agrees to run that code:

model = vaesvc.load("mine@best", code="path/to/package")  # or "trust": the package that the service has
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from vae_models.trained import Trained

__all__ = ["load", "use_code"]


def load(model: str, *, code: str | Path | None = None) -> Trained:
    """Load the registered model `NAME` (its best version), `NAME@best` or `NAME/3`, to use on this machine's CPU.

    The service is found as the command line finds it: environment, settings file, running embedded stack. Only what the
    service made is loaded: its signature, the manifest and every file are verified, no code of a model is run and
    nothing is unpickled. The service says which version is the best; MLflow is not asked. Samplers that evaluations
    have fitted to it are fetched, and verified, when one is first asked for (`samplers`, `sample(sampler="gmm-10")`).

    code: a model may need a package of a user's own. It runs on this machine with the caller's rights, so nothing of it
    is imported unless this says so: "trust" for the one that the service's signature names, or the path of a wheel or
    of its source, which has to be the very same. NeedsCodeError says which one it is.

    Raises NotFoundError for a model that is not there, UntrustedError for one that is not what the service signed, and
    UnavailableError where service or storage do not answer (all `service.errors.VaesvcError`).
    """
    try:
        from service import download, fitted, settings
        from service.cli import connect
    except ImportError as error:
        raise ImportError(_with_its_cause(error)) from error

    chosen = settings.load()
    with connect.client(chosen) as client:
        trained, statement = download.load(model, client, chosen, code)
    trained.add_samplers(fitted.Later(model=statement, client=partial(connect.client, chosen), settings=chosen))
    return trained


def use_code(path: str | Path) -> str:
    """Put a package of own code (a wheel, or a folder with a pyproject.toml) on this process's path. Return its
    SHA-256.

    From here on its parts are registered, and models that need exactly it can be loaded, by MLflow's own `pyfunc`, too.
    It is imported and run with the caller's rights. Raises `service.code.wheel.CodeError` for what is no such package.
    """
    from pathlib import Path as LocalPath

    from service import settings
    from service.code.build import built
    from service.code.path import use

    chosen = settings.load()
    wheel = built(LocalPath(path), most_bytes=chosen.code_bytes)
    use(wheel, chosen.cache_dir)
    return wheel.digest


def _with_its_cause(error: ImportError) -> str:
    """Return the message where a package of the user's own has the name of ours."""
    from importlib.util import find_spec
    from pathlib import Path

    service, ours = find_spec("service"), Path(__file__).resolve().parent.parent / "service"
    places: list[str | None] = (
        list(service.submodule_search_locations or ()) or [service.origin] if service is not None else []
    )
    if not places or ours in [Path(str(place)).resolve() for place in places]:
        return str(error)
    return (
        f"{places[0]} stands in front of vaesvc's own package service ({ours}): rename it, or take its folder off "
        "PYTHONPATH or sys.path"
    )
