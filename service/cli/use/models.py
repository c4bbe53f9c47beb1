"""From MODEL, as people write it, to a model in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli import connect, output
from service.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from service.client import Client
    from service.model_files import Reference, Statement
    from service.settings import Settings
    from vae_models.trained import Trained

TRUST = "trust"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model in use. called: what it is called in what is written; statement: what the service signed, of a
    registered one."""

    model: Trained
    called: str
    folder: Path
    statement: Statement | None = None


@contextmanager
def opened(model: str, device: str = "cpu", code: str | None = None, *, fitted: bool = False) -> Iterator[Opened]:
    """Yield the model that MODEL names: of a folder, if there is one of this name, else of the service.

    fitted: whether samplers that evaluations have fitted to a registered model are fetched beside it

    code: consent to run the package that it needs: "trust", or a folder or a wheel. Raises NotFoundError or UsageError
    for what names no model, NeedsCodeError without consent, and what loading raises.
    """
    if Path(model).is_dir():
        yield _of_folder(Path(model), device, code)
        return
    with tempfile.TemporaryDirectory(prefix="vaesvc-model-") as scratch:
        yield _of_service(_reference(model), Path(scratch) / "model", device, code, fitted=fitted)


@contextmanager
def mistakes() -> Iterator[None]:
    """Raise what a model refuses, which is the user's mistake, as UsageError: one line."""
    from vae_models.trained.checks import Refused

    try:
        yield
    except Refused as error:
        raise UsageError(str(error)) from error


def _reference(model: str) -> Reference:
    from service.model_files import reference

    try:
        return reference(model)
    except UsageError as error:
        if "/" not in model and not model.startswith("."):
            raise
        raise NotFoundError(f"there is no folder {model}, and no registered model is called so") from error


def _of_folder(folder: Path, device: str, code: str | None) -> Opened:
    from service.cli.code import bring

    if code == TRUST:
        raise UsageError(f"--code {TRUST} is of registered models: give the package's folder or wheel for {folder}")
    bring(None if code is None else Path(code))
    return Opened(model=_loaded(folder, device), called=str(folder), folder=folder)


def _of_service(asked: Reference, folder: Path, device: str, code: str | None, *, fitted: bool) -> Opened:
    from service import download, settings

    chosen = settings.load()
    with connect.client(chosen) as client:
        said = download.pull(asked, folder, client, chosen).statement
        if fitted:
            fetch_fitted(client, said, folder, chosen)
    if said.code is not None and code is not None:
        download.agree(said.code, code, folder, chosen)
    output.note(f"{said.name} version {said.version}, signed and verified")
    called = f"{said.name}/{said.version}"
    return Opened(model=_loaded(folder, device), called=called, folder=folder, statement=said)


def fetch_fitted(client: Client, said: Statement, folder: Path, chosen: Settings) -> None:
    """Write the samplers that evaluations have fitted to the model beside it, and say which came."""
    from service import fitted

    if names := fitted.fetch(client, said, chosen, folder):
        output.note(f"fitted by evaluations, signed and verified: {', '.join(names)}")


def _loaded(folder: Path, device: str) -> Trained:
    from service.cli.local import chosen_device
    from service.pyfunc import load_directory

    return load_directory(folder, device=str(chosen_device(device)))
