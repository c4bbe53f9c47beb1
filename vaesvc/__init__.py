"""What a user of trained models imports.

import vaesvc

model = vaesvc.load("digits-beta-vae-mlp@best")
reconstructions = model.predict(images)  # E[x|z] at the posterior's mean: [n, *shape of a datum]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.pyfunc import Reconstructor

__all__ = ["load"]


def load(model: str) -> Reconstructor:
    """The registered model `NAME` (its best version), `NAME@best` or `NAME/3`, to predict with on this machine's CPU.

    The service is found as the command line finds it: environment, settings file, running embedded stack. Only what the
    service made is loaded: its signature, the manifest and every file are verified, no code of a model is run and
    nothing is unpickled. The service says which version is the best; MLflow is not asked.

    Raises NotFoundError for a model that is not there, UntrustedError for one that is not what the service signed, and
    UnavailableError where service or storage do not answer (all `service.errors.VaesvcError`).
    """
    try:
        from service import download, settings
        from service.cli import connect
    except ImportError as error:
        raise ImportError(_with_its_cause(error)) from error

    chosen = settings.load()
    with connect.client(chosen) as client:
        return download.load(model, client, chosen)


def _with_its_cause(error: ImportError) -> str:
    """What to say where a package of the user's own has the name of ours."""
    from importlib.util import find_spec
    from pathlib import Path

    found, ours = find_spec("service"), Path(__file__).resolve().parent.parent / "service"
    places: list[str | None] = (
        list(found.submodule_search_locations or ()) or [found.origin] if found is not None else []
    )
    if not places or ours in [Path(str(place)).resolve() for place in places]:
        return str(error)
    return (
        f"{places[0]} stands in front of vaesvc's own package service ({ours}): rename it, or take its folder off "
        "PYTHONPATH or sys.path"
    )
