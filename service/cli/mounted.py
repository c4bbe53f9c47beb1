"""The commands that kinds of jobs bring, and those of `later`: listed by name and help, loaded when one is used.

Those of installed packages are looked for when a name is none of ours, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from service.cli.later import LATER
from service.kinds import KINDS
from service.kinds.kind import Command, loaded


class Mounted(TyperCommand):
    """A command's name and help, in place of the command itself."""

    def __init__(self, name: str, command: Command) -> None:
        super().__init__(name, help=command.help, rich_markup_mode=None)
        self._command = command

    def real(self) -> Any:
        """Load the command, or the group of commands."""
        app = loaded(self._command.app)
        parent = typer.Typer(add_completion=False, rich_markup_mode=None)
        parent.command("_")(lambda: None)  # with one command alone the group would be left out
        if isinstance(app, typer.Typer):
            parent.add_typer(app, name=self.name)
        else:
            parent.command(self.name)(app)
        group: Any = typer.main.get_command(parent)
        return group.commands[self.name]


class WithKinds(TyperGroup):
    """The command line, with what is loaded later and what kinds of jobs bring to it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._mount(LATER)
        for kind in KINDS.own().values():
            self._mount(kind.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the real command in place of a mounted one."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            self.mount_all()
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.real() if isinstance(command, Mounted) else command, rest

    def mount_all(self) -> None:
        """Mount the commands of installed packages, too. A name that exists already stays what it is."""
        for kind in KINDS.all().values():
            self._mount(kind.commands)

    def whole(self) -> Any:
        """Return itself, with every command loaded."""
        self.mount_all()
        for name, command in self.commands.items():
            if isinstance(command, Mounted):
                self.commands[name] = command.real()
        return self

    def _mount(self, commands: Any) -> None:
        for name, command in commands.items():
            if name not in self.commands:
                self.commands[name] = Mounted(name, command)
