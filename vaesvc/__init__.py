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
    from service import download, settings
    from service.cli import connect

    chosen = settings.load()
    with connect.client(chosen) as client:
        return download.load(model, client, chosen)
