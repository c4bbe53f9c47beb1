"""Every family's step beside plain loops, pythae and the machine's limits: the command `vaesvc bench`, from a checkout.

python -m tests.benchmarks.all [FAMILY ...] [--threads 1] [--rounds 7] [--json] [--gpu] [--compare A B]
"""

from __future__ import annotations

import typer

from service.cli.bench import bench

if __name__ == "__main__":
    typer.run(bench)
