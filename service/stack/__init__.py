"""The embedded local stack: S3 server, MLflow, Ray head, API and dispatcher on this machine, in a state directory.

A part whose address the user gives in the settings is not started, only checked. Imports nothing until it is called:
the S3 server's own process lives in this package and has to stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.settings import Settings
    from service.stack.part import Part as Part


def _silent(line: str) -> None:
    pass


def up(settings: Settings, report: Callable[[str], None] = _silent, only: Sequence[str] = ()) -> list[Part]:
    """Start what is not running, restart what does not answer or was started otherwise, leave the rest.

    `only` names the parts to care for (all if empty). Two at once are safe: one waits for the other.
    Raises UnavailableError naming the part and its log if one does not come up; the others stay, `up` again goes on.
    """
    from service.stack import control

    return control.up(settings, report, only)


def down(settings: Settings, report: Callable[[str], None] = _silent) -> None:
    """End the stack's processes and no others. What it stored stays, and so do its ports."""
    from service.stack import control

    control.down(settings, report)


def status(settings: Settings, only: Sequence[str] = ()) -> list[Part]:
    """Return every part as it is now, asked all at once."""
    from service.stack import control

    return control.status(settings, only)
