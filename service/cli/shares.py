"""group, quota: who shares the cluster, by which weight, and how much somebody may hold. For administrators."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson
from service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.queue.share_records import Group, Quota

GIB = 2**30

groups = typer.Typer(
    help="Groups of users, and their weights: which part of the cluster is whose (an administrator's).",
    no_args_is_help=True,
)
quotas = typer.Typer(
    help="Quotas: how much a user, or a group together, may hold and ask for (an administrator's).",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.", show_default=False)]
Users = Annotated[list[str], typer.Argument(metavar="USER...", help="Names of tokens.", show_default=False)]


class Of(StrEnum):
    USER = "user"
    GROUP = "group"


Whose = Annotated[Of, typer.Argument(help="A user's, or a group's.", show_default=False)]
Owner = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Whose; user '*': all users who have none of their own.", show_default=False),
]


@groups.command("list")
def list_groups(json: AsJson = False) -> None:
    """List the groups, their shares and what they have used: half of it counts after 7 days."""
    with connect.client() as client:
        known = client.shares.groups()
    _print_groups(known, json=json)


@groups.command("set")
def set_group(
    name: Name,
    weight: Annotated[float, typer.Option("--weight", help="Its part, beside the weights of others.")] = 1.0,
    json: AsJson = False,
) -> None:
    """Make a group, or give it another weight. Those who are in no group share as one group of weight 1."""
    from pydantic import ValidationError

    from service.queue.share_records import GroupRequest

    try:
        GroupRequest(weight=weight)
    except ValidationError as error:
        raise UsageError(f"--weight {weight:g}: {error.errors()[0]['msg']}") from None
    with connect.client() as client:
        known = client.shares.set_group(name, weight)
    _print_groups(known, json=json)


@groups.command("rm")
def remove_group(name: Name, json: AsJson = False) -> None:
    """Remove a group, its quota and its usage: its users are in none."""
    with connect.client() as client:
        known = client.shares.remove_group(name)
    _print_groups(known, json=json)


@groups.command("add")
def add_members(name: Name, users: Users, json: AsJson = False) -> None:
    """Put users into a group: each is in one at most."""
    with connect.client() as client:
        for user in users:
            known = client.shares.add_member(name, user)
    _print_groups(known, json=json)


@groups.command("drop")
def drop_members(name: Name, users: Users, json: AsJson = False) -> None:
    """Take users out of a group."""
    with connect.client() as client:
        for user in users:
            known = client.shares.remove_member(name, user)
    _print_groups(known, json=json)


def _print_groups(known: Sequence[Group], *, json: bool) -> None:
    if json:
        output.as_json(known)
        return
    rows = [
        (
            group.name or "(in no group)",
            f"{group.weight:g}",
            f"{100 * group.share:.1f}",
            f"{sum(used.gpu_seconds for used in group.usage) / 3600:.1f}",
            f"{sum(used.cpu_seconds for used in group.usage) / 3600:.1f}",
            f"{group.stored_bytes / GIB:.1f}",
            ", ".join(group.members) or "-",
        )
        for group in known
    ]
    output.table(("GROUP", "WEIGHT", "SHARE [%]", "USED [GPU h]", "USED [CPU h]", "STORED [GiB]", "USERS"), rows)


@quotas.command("list")
def list_quotas(
    mine: Annotated[bool, typer.Option("--mine", help="Those that you are under: for everybody.")] = False,
    json: AsJson = False,
) -> None:
    """List the quotas."""
    with connect.client() as client:
        known = client.shares.mine() if mine else client.shares.quotas()
    _print_quotas(known, json=json)


@quotas.command("set")
def set_quota(
    whose: Whose,
    name: Owner,
    gpus: Annotated[float | None, typer.Option(help="GPUs held at a time.", show_default=False)] = None,
    cpus: Annotated[float | None, typer.Option(help="CPU cores held at a time.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option(help="Workers of one job.", show_default=False)] = None,
    queued: Annotated[int | None, typer.Option(help="Jobs in the line at a time.", show_default=False)] = None,
    priority: Annotated[int | None, typer.Option(help="The highest priority.", show_default=False)] = None,
    storage: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="GiB of checkpoints, registered models and data sets.", show_default=False),
    ] = None,
    unlimited: Annotated[
        list[str] | None, typer.Option("--unlimited", metavar="WHAT", help="gpus, cpus, ...: no limit any more.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Make a quota, or change what is given of it: the rest stays as it is."""
    from pydantic import ValidationError

    from service.queue.share_records import Bounds

    size = None if storage is None else round(storage * GIB)
    given = {
        "gpus": gpus, "cpus": cpus, "workers": workers, "queued": queued, "priority": priority, "storage_bytes": size
    }  # fmt: skip
    named = {name.removesuffix("_bytes"): name for name in given}
    for what in unlimited or ():
        if what not in named:
            raise UsageError(f"--unlimited {what}: no such limit; there are {', '.join(named)}")
    with connect.client() as client:
        before = next((q for q in client.shares.quotas() if (q.kind, q.name) == (whose.value, name)), None)
        values = {} if before is None else before.model_dump(include=set(given))
        values |= {what: most for what, most in given.items() if most is not None}
        values |= dict.fromkeys(named[what] for what in unlimited or ())
        try:
            bounds = Bounds(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).removesuffix("_bytes")
            raise UsageError(f"--{name} {first['input']}: {first['msg']}") from None
        made = client.shares.set_quota(whose.value, name, bounds)
    _print_quotas([made], json=json)


@quotas.command("rm")
def remove_quota(whose: Whose, name: Owner, json: AsJson = False) -> None:
    """Remove a quota."""
    with connect.client() as client:
        known = client.shares.remove_quota(whose.value, name)
    _print_quotas(known, json=json)


def _print_quotas(known: Sequence[Quota], *, json: bool) -> None:
    if json:
        output.as_json(known)
        return
    rows = [
        (
            f"{quota.kind} {quota.name}",
            *("-" if most is None else f"{most:g}" for most in (quota.gpus, quota.cpus, quota.workers, quota.queued)),
            "-" if quota.priority is None else str(quota.priority),
            *("-" if size is None else f"{size / GIB:.1f}" for size in (quota.storage_bytes, quota.stored_bytes)),
        )
        for quota in known
    ]
    header = ("OF", "GPUS", "CPUS [cores]", "WORKERS OF A JOB", "JOBS IN LINE", "PRIORITY")
    output.table((*header, "STORAGE [GiB]", "STORED [GiB]"), rows)
