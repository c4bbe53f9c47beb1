"""A caller of POST /v1/jobs with nothing but the standard library, in a process of its own: for `queue_throughput`.

Reads a line of JSON (host, port, token, spec, jobs), makes one call, says so, and makes the others when a line comes.
"""

from __future__ import annotations

import http.client
import json
import sys
import uuid
from typing import Any


def call(connection: http.client.HTTPConnection, token: str, spec: dict[str, Any]) -> None:
    """Submit the spec with a key of its own. Raises RuntimeError with what the API says, unless it takes it."""
    body = json.dumps({"spec": spec, "key": f"auto-{uuid.uuid4()}"})
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection.request("POST", "/v1/jobs", body, headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {said.decode(errors='replace')}")


def main() -> None:
    order = json.loads(sys.stdin.readline())
    connection = http.client.HTTPConnection(order["host"], order["port"], timeout=60)
    call(connection, order["token"], order["spec"])
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(order["jobs"]):
        call(connection, order["token"], order["spec"])
    print("done", flush=True)


if __name__ == "__main__":
    main()
