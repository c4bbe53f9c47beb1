"""Compares the pinned packages with known advisories, from a stored list: no network, and the same answer everywhere.

    check_advisories.py [CONSTRAINTS [ADVISORIES]]        exit status 1 and a line for each pin that is known vulnerable
    check_advisories.py --merge REPORT.json               adds to the list what `pip-audit` found, dated today

The list (`advisories.json`) is in the form of OSV's ranges: versions from `introduced` on, before `fixed`, are
vulnerable; `fixed` is null where no version is without the fault. `accepted` gives the reason why a fault that cannot
be avoided does no harm here. It says when it was compiled, and a list that is old says so. To renew it, with a network:

    pip-audit -r constraints.txt --no-deps --disable-pip -f json -o report.json
    python deploy/check_advisories.py --merge report.json
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
ADVISORIES = ROOT / "deploy" / "advisories.json"
OLD_DAYS = 90


def pins(constraints: Path) -> dict[str, Version]:
    """Package -> version, of the lines `name==version`."""
    lines = (line.split("#")[0].strip() for line in constraints.read_text().splitlines())
    named = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): Version(version) for name, version in named}


def vulnerable(version: Version, advisory: Mapping[str, Any]) -> bool:
    """Whether the advisory is about this version."""
    fixed = advisory["fixed"]
    return Version(advisory["introduced"]) <= version and (fixed is None or version < Version(fixed))


def findings(pinned: Mapping[str, Version], known: Mapping[str, Any]) -> Iterator[str]:
    """A line for each pin with an advisory that is not accepted."""
    for advisory in known["advisories"]:
        package = canonicalize_name(advisory["package"])
        if package not in pinned or advisory["id"] in known["accepted"] or not vulnerable(pinned[package], advisory):
            continue
        names = ", ".join((advisory["id"], *advisory["aliases"]))
        mend = (
            f"fixed in {advisory['fixed']}" if advisory["fixed"] else "no version is without it: say in `accepted` why"
        )
        yield f"{package} {pinned[package]}: {advisory['summary']} ({names}); {mend}"


def merged(known: dict[str, Any], report: Mapping[str, Any], today: datetime.date) -> dict[str, Any]:
    """The list with what pip-audit reports of the pins, each from the pinned version to its first fix."""
    there = {advisory["id"] for advisory in known["advisories"]}
    there |= {alias for advisory in known["advisories"] for alias in advisory["aliases"]}
    new = [
        {
            "id": fault["id"],
            "aliases": fault.get("aliases", []),
            "package": canonicalize_name(package["name"]),
            "introduced": package["version"],
            "fixed": min(fault["fix_versions"], key=Version) if fault["fix_versions"] else None,
            "summary": " ".join(fault.get("description", "").split())[:100],
        }
        for package in report["dependencies"]
        for fault in package.get("vulns", [])
        if not there & {fault["id"], *fault.get("aliases", [])}
    ]
    every = sorted([*known["advisories"], *new], key=lambda one: (one["package"], one["id"]))
    return {**known, "compiled": today.isoformat(), "advisories": every}


def written(known: Mapping[str, Any]) -> str:
    """The list as text, an advisory a line: what changed is then seen."""
    head = [f' "{key}": {json.dumps(known[key])},' for key in ("compiled", "source")]
    advisories = ",\n".join(f"  {json.dumps(one)}" for one in known["advisories"])
    accepted = ",\n".join(f"  {json.dumps(name)}: {json.dumps(why)}" for name, why in known["accepted"].items())
    return "\n".join(["{", *head, ' "advisories": [', advisories, " ],", ' "accepted": {', accepted, " }", "}", ""])


def main(arguments: list[str], today: datetime.date) -> int:
    if arguments[:1] == ["--merge"]:
        report = json.loads(Path(arguments[1]).read_text())
        ADVISORIES.write_text(written(merged(json.loads(ADVISORIES.read_text()), report, today)))
        return 0
    constraints, advisories = (*map(Path, arguments), *(CONSTRAINTS, ADVISORIES)[len(arguments) :])
    known = json.loads(advisories.read_text())
    pinned, lines = pins(constraints), list(findings(pins(constraints), known))
    age = (today - datetime.date.fromisoformat(known["compiled"])).days
    old = "; it is old: renew it (see deploy/check_advisories.py)" if age > OLD_DAYS else ""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(
        f"advisories: {len(lines)} of {len(pinned)} pins known vulnerable, by a list of {len(known['advisories'])} "
        f"that is {age} days old{old}\n"
    )
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], datetime.datetime.now(datetime.UTC).date()))
