"""What adding a part costs the house: which shared files name it, and which ones the commit that added it changed.

    python -m tests.benchmarks.shared_files [--json]

Two measures of parts that are in the tree, each over the Python files of vae_models, tuning, service and vaesvc:

names    the files outside of the part's own place that name it: what has to be changed to add another one like it.
         Recipes, searches, reproductions and `vaesvc bench` use parts, and are what somebody adds them for: they are
         not counted. What else was made of the part alone is told by itself: the report of evaluations, a seam that a
         topology brought
changed  the files outside of its own place that the commit changed which added it, whatever else that commit did: the
         first sentences and the first videos also taught the house what no part had needed before

And tests/plugins, a package with a part of every seam: the product's files that name it. Needs the repository's history
for `changed`: "-" where a commit is not there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("vae_models", "tuning", "service", "vaesvc")
USERS = re.compile(r"vae_models/recipes/|tuning/searches/|tuning/reproductions/|service/bench/")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A part of the tree.

    own:    its place, a pattern of paths
    named:  how another file would name it, a pattern of text
    made:   files that are there for it alone, a pattern of paths
    commit: which added it; None: none can be told apart
    """

    what: str
    part: str
    own: str
    named: str
    made: str = r"$^"
    commit: str | None = None


EXAMPLES = (
    Example(
        what="a likelihood", part="logistic-mixture", own=r"vae_models/likelihoods/discretized\.py",
        named=r"LogisticMixture|logistic-mixture",
    ),
    Example(
        what="a data set", part="moving-digits", own=r"vae_models/data/(catalogue/video|builders/(video|bair))\.py",
        named=r"moving.digits|catalogue\.video", commit="f671e97",
    ),
    Example(
        what="a data set", part="bair", own=r"vae_models/data/(catalogue/video|builders/bair)\.py",
        named=r"\bbair|catalogue\.video", commit="c816c7a",
    ),
    Example(
        what="a set of sequences", part="yahoo", own=r"vae_models/data/(catalogue|builders)/text\.py",
        named=r"yahoo|catalogue\.text", commit="0acae98",
    ),
    Example(
        what="a kind of job", part="evaluate", own=r"service/kinds/evaluate/",
        named=r"kinds\.evaluate|\"evaluate\"", made=r"service/(report|reproduced)/|service/cli/use/card\.py",
        commit="84f7199",
    ),
    Example(
        what="a topology", part="ladder (NVAE)", own=r"vae_models/topologies/ladder/",
        named=r"topologies\.ladder", commit="77d9dd3",
    ),
    Example(
        what="a topology", part="text", own=r"vae_models/topologies/text/",
        named=r"topologies\.text", commit="2e03ba2",
    ),
    Example(
        what="a topology", part="video (SVG-LP)", own=r"vae_models/topologies/video/",
        named=r"topologies\.video", made=r"service/parts_view\.py", commit="ca034d5",
    ),
    Example(
        what="an evaluator", part="prediction", own=r"vae_models/evaluation/prediction/",
        named=r"evaluation\.prediction", commit="b978f53",
    ),
    Example(what="one of every seam", part="tests/plugins", own=r"$^", named=r"lighthouse"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one example costs. changed: None where the commit is not in this clone."""

    what: str
    part: str
    names: tuple[str, ...]
    made: tuple[str, ...]
    changed: tuple[str, ...] | None


def cost(example: Example) -> Cost:
    """Return the shared files of the product that name the part, and that its commit changed."""
    changed = None if example.commit is None else _changed(example.commit)
    names = [path for path in _files() if _shared(path, example) and _says(path, example.named)]
    return Cost(
        what=example.what,
        part=example.part,
        names=tuple(path for path in names if re.match(example.made, path) is None),
        made=tuple(path for path in names if re.match(example.made, path) is not None),
        changed=None if changed is None else tuple(path for path in changed if _shared(path, example)),
    )


def _files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for package in PRODUCT for path in (ROOT / package).rglob("*.py"))


def _shared(path: str, example: Example) -> bool:
    return re.match(example.own, path) is None and USERS.match(path) is None


def _says(path: str, pattern: str) -> bool:
    return re.search(pattern, (ROOT / path).read_text()) is not None


def _changed(commit: str) -> list[str] | None:
    """Return the product's Python files that the commit changed and that were there before; None: no such commit."""
    command = ("git", "diff-tree", "--no-commit-id", "-r", "-M", "--name-status", commit)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return None
    lines = (line.split("\t") for line in done.stdout.splitlines())
    paths = [fields[-1] for fields in lines if fields[0] != "A"]
    return [path for path in paths if path.startswith(PRODUCT) and path.endswith(".py")]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.shared_files", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    costs = [cost(example) for example in EXAMPLES]
    if options.json:
        json.dump([asdict(each) for each in costs], sys.stdout, indent=1)
        return 0
    sys.stdout.write("| to add | example | shared files that name it | made for it | changed by its commit |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    for each in costs:
        changed = "-" if each.changed is None else str(len(each.changed))
        line = (each.what, f"`{each.part}`", _counted(each.names), _counted(each.made), changed)
        sys.stdout.write(f"| {' | '.join(line)} |\n")
    return 0


def _counted(paths: tuple[str, ...]) -> str:
    return f"{len(paths)}: {', '.join(f'`{path}`' for path in paths)}" if paths else "0"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
