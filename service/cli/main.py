"""`vaesvc`: the command line. This module and those it imports stay light, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys

import typer

from service.cli import (
    follow,
    jobs,
    models,
    order,
    output,
    parts,
    pictures,
    servers,
    stack,
    submit,
)
from service.cli.mounted import WithKinds
from service.collector import collect_rarely
from service.errors import VaesvcError

app = typer.Typer(
    name="vaesvc",
    cls=WithKinds,
    help="Train variational autoencoders through a job queue: submit, watch, and pull the registered model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich costs more than the whole command
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        from service import __version__

        output.data(f"vaesvc {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 success, 1 the job failed, 2 wrong usage, 3 a server does not answer or refuses the token, "
    "130 detached with Ctrl-C."
)
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it and end."),
) -> None:
    pass


app.command()(submit.submit)
app.command("jobs")(jobs.list_jobs)
app.command()(jobs.show)
app.command()(follow.watch)
app.command()(follow.logs)
app.command()(jobs.cancel)
app.command()(jobs.retry)
app.command()(order.hold)
app.command()(order.release)
app.command()(order.reprioritize)
app.command()(order.clone)
app.command()(order.diff)
app.command()(pictures.pictures)
app.command()(models.recipes)
app.command()(parts.parts)
app.command("models")(models.list_models)
app.command()(models.pull)
app.command()(models.verify)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(servers.serve)
app.command(hidden=True)(servers.dispatch)


def main() -> None:
    """Run the console script. A user's mistake ends in one line; anything unforeseen in one line and a log."""
    collect_rarely()
    try:
        app()
    except VaesvcError as error:
        output.note(f"vaesvc: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(output.INTERRUPTED)
    except BrokenPipeError:  # `vaesvc jobs | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        output.note(output.unforeseen(error))
        sys.exit(1)
