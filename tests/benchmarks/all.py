"""Every family's step beside plain loops, pythae and the machine's limits: the command `vaesvc bench`, from a checkout.

python -m tests.benchmarks.all [FAMILY ...] [--threads 1] [--rounds 7] [--json] [--gpu] [--compare A B]
"""

from __future__ import annotations

import sys

from service.cli.main import main

if __name__ == "__main__":
    sys.argv[1:] = ["bench", *sys.argv[1:]]
    main()
