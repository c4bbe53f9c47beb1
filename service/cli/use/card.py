"""export and card: a model taken elsewhere, and what there is to know of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import connect, output
from service.cli.use.options import Beta, Code, Model
from service.errors import VaesvcError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.cli.use.models import Opened
    from service.model_files import Statement
    from vae_models.trained.card import Evaluated

EVALUATION = "evaluation"  # of a run's, or a pulled model's folder
EVALUATE = "evaluate"  # the kind of job
NEWEST = 100  # jobs, among which a registered model's evaluations are looked for


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder for the programs.", show_default=False)],
    beta: Beta = None,
    code: Code = None,
) -> None:
    """Write encoder.pt2 and decoder.pt2 (torch.export), compared with the model: they run with torch alone."""
    from service.cli.use import models
    from service.directories import disk_error

    with models.opened(model, "cpu", code) as opened, models.mistakes():
        from vae_models.trained.export import export as write

        try:
            about = write(opened.model, out, beta=beta)
        except OSError as error:
            raise disk_error(error, out) from error
    differs = max(each["differs_at_most"] for each in about["files"].values())
    output.note(f"Programs and model differ by {differs:.3g} at most on random inputs (allowed: {about['rounding']:g})")
    for name in about["files"]:
        output.data(str(out / name))


def card(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A file; default: printed.", show_default=False)
    ] = None,
    code: Code = None,
) -> None:
    """Write a model card in Markdown: what it is, its data and their licence, its numbers with errors, its use."""
    from service.cli.use import files, models

    with models.opened(model, "cpu", code) as opened:
        from vae_models.trained.card import card as written

        said = opened.statement
        if said is None:
            evaluated, title = list(_in_folder(opened)), opened.folder.resolve().name
        else:
            evaluated, title = _in_service(said), f"{said.name}, version {said.version}"
        text = written(opened.model, title, load=_load(opened), evaluated=evaluated, more=_signed(said))
    if out is None:
        output.data(text, end="")
        return
    files.write_bytes(out, text.encode())
    output.data(str(out))


def _load(opened: Opened) -> str:
    """Return what the model is loaded by."""
    if opened.statement is not None:
        return f"{opened.statement.name}/{opened.statement.version}"
    return str(opened.folder) if opened.folder.is_absolute() else f"./{opened.folder}"


def _signed(said: Statement | None) -> Mapping[str, str]:
    """Return what the service signed of a registered version, as far as people ask."""
    if said is None:
        return {}
    own = {} if said.code is None else {"needs the package": str(said.code)}
    value = "-" if said.value is None else f"{said.value:,.6g}"
    return {"version": str(said.version), "job": said.job_id, "chosen by": f"{said.metric} = {value}", **own}


def _in_folder(opened: Opened) -> Iterator[Evaluated]:
    """Yield what `vaesvc evaluate FOLDER` found out about these weights."""
    import hashlib

    from service.directories import MANIFEST
    from vae_models.evaluation import findings, kept
    from vae_models.trained import folders
    from vae_models.trained.card import Evaluated

    origin = opened.model.origin
    if origin is None:
        return
    weights = hashlib.sha256((origin.folder / MANIFEST).read_bytes()).hexdigest()
    place = folders.owner(opened.folder) / EVALUATION
    for folder in sorted(path for path in place.glob("*") if path.is_dir()):
        about, evaluation = kept.about(folder), findings.read(folder)
        if evaluation is not None and about.get("weights") == weights:
            yield Evaluated(split=str(about["plan"]["split"]), findings={folder.name: evaluation.plain()})


def _in_service(said: Statement) -> list[Evaluated]:
    """Return what the newest evaluations of the service found out about this version."""
    from vae_models.trained.card import Evaluated

    evaluated = []
    try:
        with connect.client() as client:
            for job in client.jobs(limit=NEWEST):
                if job.kind == EVALUATE and _is_of(job.spec.get("model") or {}, said):
                    detail: dict[str, Any] = dict(client.view(job.id).detail)
                    evaluated.append(Evaluated(split=str(detail["plan"]["split"]), findings=detail["findings"]))
    except VaesvcError as error:
        output.note(f"(evaluations could not be read: {error})")
    return evaluated


def _is_of(model: Mapping[str, Any], said: Statement) -> bool:
    return (model.get("job"), model.get("trial"), model.get("step")) == (said.job_id, None, said.step)
