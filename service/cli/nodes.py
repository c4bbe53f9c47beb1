"""node: the cluster's nodes, and drains for the maintenance of a machine."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output, times
from service.cli.arguments import AsJson
from service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.client import Client
    from service.queue.node_records import Node

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 600.0  # for an API that is started again meanwhile
GIB = 2**30
_SHOWN = 3  # attempts of a node in the table

app = typer.Typer(
    help="The cluster's nodes, and what runs there; drain one for the maintenance of its machine (operators).",
    no_args_is_help=True,
)
Name = Annotated[
    str,
    typer.Argument(metavar="NODE", help="Ray's id of it, the beginning of one, or its address.", show_default=False),
]


@app.command("list")
def list_nodes(json: AsJson = False) -> None:
    """List the nodes as the dispatcher saw them last: what they have, what runs there, and who drains them, why."""
    with connect.client() as client:
        known = client.nodes.all()
    _print(known, json=json)


@app.command("drain")
def drain(
    name: Name,
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="Told to the owners of what leaves.", show_default=False)
    ] = "",
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="2026-11-29T14:00: then it ends by itself.", show_default=False),
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="30m, 2h, 1d: the same.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when nothing of the service runs there.")] = False,
    json: AsJson = False,
) -> None:
    """Let nothing run on a node's machine: attempts there checkpoint and go on elsewhere, at no cost, until `node
    resume`. A machine that is started again meanwhile is drained still."""
    from service.queue.node_records import MOST_WORDS

    end = _end(until, lasting)
    if len(because) > MOST_WORDS:
        raise UsageError(f"--because: {len(because)} characters; at most {MOST_WORDS}")
    with connect.client() as client:
        drained: Sequence[Node] = client.nodes.drain(name, because=because, until=end)
        if wait:
            drained = _empty(client, drained)
    _print(drained, json=json)
    for node in drained:
        if node.head:
            output.note("It is the head: with it go all attempts, and none starts until it is resumed.")
    if not wait and not all(node.empty for node in drained):
        output.note(f"Attempts there give way. Wait for them: vaesvc node drain {name} --wait")


@app.command("resume")
def resume(name: Name, json: AsJson = False) -> None:
    """Let things run on a node's machine again."""
    with connect.client() as client:
        resumed = client.nodes.resume(name)
    _print(resumed, json=json)
    for node in resumed:
        if node.ray_drains:
            output.note(f"Ray drains {node.id[:12]} itself: that ends when Ray is started there again.")


def _end(until: str | None, lasting: str | None) -> float | None:
    """Return when the maintenance ends, in seconds since 1970. Raises UsageError."""
    if until is not None and lasting is not None:
        raise UsageError("--until and --for say the same: give one of them")
    if lasting is not None:
        span = times.seconds(lasting, "--for")
        if not 0 < span < math.inf:
            raise UsageError(f"--for {lasting}: give a span that ends later, for example 2h")
        return time.time() + span
    if until is None:
        return None
    try:
        return datetime.fromisoformat(until).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--until {until}: a moment has the form 2026-11-29 or 2026-11-29T14:00") from None


def _empty(client: Client, drained: Sequence[Node]) -> Sequence[Node]:
    """Wait until nothing of the service runs on these nodes any more; return them as they are then. Raises UsageError
    where somebody resumes them meanwhile, or the maintenance ends."""
    addresses = {node.address for node in drained}
    said = ""
    with client.patience(PATIENCE_SECONDS):
        while not all(node.empty for node in drained):
            if any(node.drain is None for node in drained):
                raise UsageError("the drain has ended: somebody resumed the node, or its maintenance is over")
            waiting = _waiting_for(drained)
            if waiting != said:
                output.note(waiting)
                said = waiting
            time.sleep(POLL_SECONDS)
            drained = [node for node in client.nodes.all() if node.address in addresses]
    return drained


def _waiting_for(nodes: Sequence[Node]) -> str:
    there = sorted({name for node in nodes for name in node.attempts})
    undecided = sorted({name for node in nodes for name in node.undecided})
    if there:
        return f"waits for {', '.join(there)}"
    if undecided:
        return f"waits for {', '.join(undecided)}, from before the drain: their workers are nowhere yet"
    return "waits for the dispatcher to look"


def _print(nodes: Sequence[Node], *, json: bool) -> None:
    if json:
        output.as_json(nodes)
        return
    rows = [
        (
            node.id[:12],
            node.address + (" (head)" if node.head else ""),
            *(output.number(node.resources.get(name, 0.0), 0) for name in ("CPU", "GPU")),
            f"{node.resources.get('memory', 0.0) / GIB:.1f}",
            _running(node),
            _state(node),
        )
        for node in nodes
    ]
    output.table(("NODE", "ADDRESS", "CPUS [cores]", "GPUS", "MEMORY [GiB]", "RUNS", "STATE"), rows)


def _running(node: Node) -> str:
    more = f" and {len(node.attempts) - _SHOWN} more" if len(node.attempts) > _SHOWN else ""
    return ", ".join(node.attempts[:_SHOWN]) + more or "-"


def _state(node: Node) -> str:
    states = []
    if node.gone_at is not None:
        states.append(f"gone since {output.moment(node.gone_at)}")
    if (drain := node.drain) is not None:
        because = f": {drain.because}" if drain.because else ""
        until = f", until {output.moment(drain.until)}" if drain.until is not None else ""
        states.append(f"drained since {output.moment(drain.since)} by {drain.by}{until}{because}")
    if node.ray_drains:
        gone = f", gone at {output.moment(node.ray_deadline)}" if node.ray_deadline is not None else ""
        states.append(f"drained by Ray{gone}")
    return "; ".join(states) or "in use"
