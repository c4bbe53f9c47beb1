"""What every recipe computes, as digests: losses and weights of its first steps, and an evaluation, on generated data.

    python -m tests.golden [--dtype float64] [--workers 2] [--study] [RECIPE ...] > digests.json
    python -m tests.golden [--dtype float64] [--workers 2] [--study] [RECIPE ...] --compare
    python -m tests.golden --compare before.json after.json
    python -m tests.golden --keep COMMIT float32.1=digests.json ...
    python -m tests.golden --renew WHY float32.1=digests.json ...

A change that says that it changes no mathematics prints the same before and after it, on one machine: bits depend on
the processor and on the build of torch. `--compare` alone compares with the file that is kept beside this one
(`before.json`, which says the commit, the processor and the torch that it is of, and of which recipes numbers were
changed on purpose since, and why). Every recipe has the networks,
objective and beta that it has; the batch is small, and the data are drawn from the shape and support of its data set.
`--study`: the same for one study's table, in place of the recipes unless some are named.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.golden import kept, recipes, study
from vae_models.recipes import catalogue


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", help="default: all")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--study", action="store_true", help="of one study's table")
    parser.add_argument("--compare", action="store_true", help="with the file that is kept; or of two files")
    parser.add_argument("--keep", metavar="COMMIT", help="write the file from GROUP=digests.json")
    parser.add_argument("--renew", metavar="WHY", help="replace in the file what GROUP=digests.json have")
    options = parser.parse_args(arguments)
    if options.keep or options.renew:
        files = dict(each.split("=", 1) for each in options.recipes)
        groups = {group: json.loads(Path(path).read_text()) for group, path in files.items()}
        if options.keep:
            kept.write(groups, options.keep)
        else:
            kept.renew(groups, options.renew)
        return 0
    if options.compare and len(options.recipes) == 2 and all(Path(path).is_file() for path in options.recipes):
        before, after = (json.loads(Path(path).read_text()) for path in options.recipes)
        gone = [f"{name}: gone" for name in before if name not in after]
        return _report(gone + kept.compare(before, after), len(before.keys() & after.keys()))
    found = _digests(options)
    if not options.compare:
        json.dump(found, sys.stdout, indent=1)
        return 0
    return _with_kept(found, f"{options.dtype}.{options.workers}", every=not options.recipes and not options.study)


def _digests(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    found = study.digests(options.dtype) if options.study else {}
    if options.recipes or not options.study:
        found |= recipes.digests(options.recipes or sorted(catalogue()), options.dtype, options.workers)
    return found


def _with_kept(found: kept.Digests, group: str, *, every: bool) -> int:
    before = kept.read()
    for line in kept.differences(before):
        sys.stdout.write(f"{line}: bits depend on it, and may differ without a change of the code\n")
    digests = before["digests"].get(group, {})
    sys.stdout.write(f"{group}, compared with commit {before['commit']}\n")
    gone = [f"{name}: gone" for name in digests if every and name not in found and not name.startswith("study/")]
    return _report(gone + kept.compare(digests, found), len(digests.keys() & found.keys()))


def _report(lines: list[str], compared: int) -> int:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{compared} compared, {len(lines)} differ\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
