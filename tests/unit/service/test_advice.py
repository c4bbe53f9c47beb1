"""What messages and pages advise can be done: the commands, options, targets, extras and variables that they name."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from service import settings
from service.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("vaesvc", "service", "tuning", "vae_models", "deploy")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").glob("*.sh"))]
COMMAND = re.compile(
    r"(`|: |^|&& |\$\()?(?<![\w./$-])vaesvc ([a-z]+\b(?:(?!vaesvc )[^`\n;&|#(),])*?)"
    r"(?=[.:]\s|[.:]?$|[`\n;&|#(),]|vaesvc )",
    re.MULTILINE,
)
PLACE = "X"  # instead of {what is filled in}


@functools.cache
def texts() -> tuple[tuple[str, str], ...]:
    """(where, text) of every string in the sources, what is filled in replaced, and of every page."""
    sources = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    pages = [(str(page.relative_to(ROOT)), page.read_text()) for page in PAGES]
    return (*(text for path in sources for text in _strings(path)), *pages)


def _strings(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            held = (str(part.value) if isinstance(part, ast.Constant) else PLACE for part in node.values)
            yield f"{path.relative_to(ROOT)}:{node.lineno}", "".join(held)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def named(pattern: str) -> list[tuple[str, str]]:
    return [(where, found) for where, text in texts() for found in re.findall(pattern, text)]


@functools.cache
def vaesvc() -> Any:
    """The command with all of its subcommands."""
    return typer.main.get_command(app).whole()  # type: ignore[attr-defined]


def mistake(line: str) -> str | None:
    """Why `vaesvc line` cannot be run; None if it can. Words that are no options may be prose after it."""
    words = re.sub(r"['\"]", "", line).split()
    command = vaesvc()
    while hasattr(command, "commands"):
        name = words.pop(0) if words else ""
        if name not in command.commands:
            return f"there is no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    wrong = [word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in known]
    return f"{command.name} has no {', '.join(wrong)}" if wrong else None


def test_fault_12_every_command_that_a_message_or_a_page_names_exists() -> None:
    found = [
        (where, line.strip())
        for where, text in texts()
        for before, line in COMMAND.findall(text)
        if before in ("`", ": ") or (before and ".py" not in where)  # else the name may stand in a sentence
    ]
    assert len(found) > 100
    wrong = [f"{where}: vaesvc {line}: {why}" for where, line in found if (why := mistake(line)) is not None]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("line", ["instal", "study begin", "submit digits/x --wit", "token", "logs -g X"])
def test_fault_12_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert mistake(line) is not None


def test_fault_12_every_target_that_a_message_or_a_page_names_is_made_by_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_targets = [
        *named(r"(?:`|again: )make (?!the )([a-z]+)"),
        *((where, target) for where, target in named(r"(?m)^make ([a-z]+)") if ".py" not in where),
    ]
    assert {"env", "quickstart"} <= {target for _, target in named_targets}
    assert [(where, target) for where, target in named_targets if target not in targets] == []


def test_fault_12_every_extra_that_is_advised_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    advised = named(r"vaesvc\[([a-z]+)\]")
    assert {extra for _, extra in advised} >= {"local", "optuna"}
    assert [(where, extra) for where, extra in advised if extra not in extras] == []


def test_fault_12_every_variable_that_is_named_is_read() -> None:
    known = {settings.variable(field) for field in settings.field_names()}
    known |= {text for _, text in texts() if re.fullmatch(r"VAESVC_[A-Z0-9_]+", text)}  # read by its name
    wrong = [(where, name) for where, name in named(r"\b(VAESVC_[A-Z0-9_]*[A-Z0-9])\b") if name not in known]
    assert wrong == []


def test_fault_12_every_module_that_is_run_by_name_is_there() -> None:
    modules = named(r"python -m ((?:service|tuning|vae_models|tests)\.[a-z_.]+[a-z_])")
    assert modules
    assert [(where, name) for where, name in modules if importlib.util.find_spec(name) is None] == []
