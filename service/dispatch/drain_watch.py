"""Asks Ray which nodes of a cluster are drained: `python -m service.dispatch.drain_watch PARENT_PID GCS_ADDRESS`.

Ray 2.60 does not tell it over HTTP: there a node that is drained is ALIVE until it is gone. Only the GCS tells, and
its client is not documented, though Ray Serve and Ray Train ask it, too: this is the one place that knows it. It is a
process of its own, because that client ends its process when the GCS stays away.

Every `EVERY_SECONDS` it writes a line of JSON, {"draining": {node id: deadline}}, in ms since 1970, 0 where there is
none; or it writes what is wrong, {"error": text}, and ends; "lasting": true says that it would be wrong again.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from service.attempt.processes import die_with_parent

EVERY_SECONDS = 2.0
_ANSWER_SECONDS = 5.0


def main() -> int:
    die_with_parent(int(sys.argv[1]))
    try:
        _watch(sys.argv[2])
    except Exception as error:
        _say({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
    return 1


def _watch(address: str) -> None:
    """Tell what the GCS at this address says, for ever. Raise Ray's errors; return where this Ray has no such call."""
    import ray

    client: Any = ray._raylet.GcsClient(address=address)  # compiled: type checkers do not see into it
    if not hasattr(client, "get_draining_nodes"):
        error = f"Ray {ray.__version__} does not tell (its GCS client has no get_draining_nodes, as that of 2.60 has)"
        _say({"error": error, "lasting": True})
        return
    while True:
        draining = client.get_draining_nodes(timeout=_ANSWER_SECONDS)
        _say({"draining": {str(node): int(deadline) for node, deadline in draining.items()}})
        time.sleep(EVERY_SECONDS)


def _say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
