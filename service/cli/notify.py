"""notify: add, list, rm, try. Where one is told of one's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson
from service.errors import UsageError
from service.queue.notice import ENDS, Channel, Notice

if TYPE_CHECKING:
    from service import wire

app = typer.Typer(help="Be told of your jobs by webhook, Slack or mail.", no_args_is_help=True)
Where = Annotated[
    str,
    typer.Argument(
        metavar="WHERE",
        help="webhook:https://host/path, slack:https://hooks.slack.com/..., mail:you@example.org.",
        show_default=False,
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="`vaesvc notify list` shows it.", show_default=False)]


def request(where: str, notices: list[Notice] | None = None) -> wire.NoticeRequest:
    """Return the wish that a word on the command line is: `webhook:https://host/path`. Raises UsageError."""
    from service import wire

    channel, colon, address = where.partition(":")
    if not colon or not address or channel not in list(Channel):
        raise UsageError(f"{where}: write webhook:https://host/path, slack:https://... or mail:you@example.org")
    return wire.NoticeRequest(channel=Channel(channel), address=address, notices=tuple(notices or ENDS))


@app.command()
def add(
    where: Where,
    on: Annotated[
        list[Notice] | None, typer.Option("--on", help="Of what; repeatable. Else: of every end.", show_default=False)
    ] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Of this one alone.", show_default=False)] = None,
    json: AsJson = False,
) -> None:
    """Be told of your jobs there; print the id, and of a webhook the secret that signs it."""
    asked = request(where, on)
    with connect.client() as client:
        made = client.notices.add(asked, job=job)
    if json:
        output.as_json(made)
        return
    output.data(made.subscription.id)
    if made.secret is not None:
        output.data(made.secret)
        output.note("Each message is signed with this secret (standardwebhooks.com): verify `webhook-signature`.")


@app.command("list")
def list_all(json: AsJson = False) -> None:
    """List what you are told and where, and what could not be delivered."""
    with connect.client() as client:
        subscriptions = client.notices.all()
    if json:
        output.as_json(subscriptions)
        return
    rows = [
        (
            subscription.id,
            subscription.job_id or "all",
            f"{subscription.channel}:{subscription.address}",
            ",".join(subscription.notices),
            str(subscription.pending),
            str(subscription.given_up),
            subscription.error or "",
        )
        for subscription in subscriptions
    ]
    output.table(("ID", "JOBS", "WHERE", "ON", "PENDING", "GIVEN UP", "LAST ERROR"), rows)


@app.command()
def rm(subscription: Id) -> None:
    """Be told no more."""
    with connect.client() as client:
        gone = client.notices.remove(subscription)
    output.note(f"{gone.subscription.channel}:{gone.subscription.address} is told no more.")


@app.command("try")
def try_out(subscription: Id) -> None:
    """Send a trial message there."""
    with connect.client() as client:
        output.data(client.notices.try_out(subscription))
