"""gc: what goes from the bucket by policy, on the service's machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import output
from service.cli.arguments import AsJson
from service.quantities import size

if TYPE_CHECKING:
    from service.gc import Item


def collect(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Remove logs, checkpoints, pictures, data sets and packages that the settings do not keep (docs/operations.md).

    The dispatcher does the same by itself. For whoever has the service's database and bucket.
    """
    from service import gc, settings
    from service.artifacts import Artifacts
    from service.queue.store import Store

    loaded = settings.load()
    store = Store(loaded.database_url, lease_seconds=loaded.lease_seconds)
    items: list[Item] = []
    try:
        store.migrate()
        artifacts = Artifacts(loaded.storage())
        if dry_run:
            items += gc.unneeded(store, artifacts, loaded)
            items += gc.planned(store, artifacts, gc.Policy.of(loaded))
        else:
            gc.turn(store, artifacts, loaded, note=items.append)
    finally:
        store.close()
    if json:
        output.as_json(items)
        return
    header = ("WHAT", "OF", "FILES", "SIZE [MiB]", "AGE [h:mm:ss]", "WHY")
    if items:
        output.table(header, [_row(item) for item in items])
    total = size(sum(item.bytes for item in items))
    output.note(f"{'Would remove' if dry_run else 'Removed'} {len(items)} things, {total}.")


def _row(item: Item) -> tuple[str, ...]:
    age = "-" if item.ended_at is None else output.duration(time.time() - item.ended_at)
    return item.what, item.name, str(item.files), output.number(item.bytes / 2**20), age, item.why
