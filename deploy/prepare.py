"""Makes what a shared server needs before API and dispatcher start; harmless to repeat. Reads the usual settings.

The database's tables, the bucket, the service's secret, Ray's token, and an administrator's: `prepare.py USER FILE`.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from service import auth, settings
from service.artifacts import Artifacts
from service.errors import UnavailableError, VaesvcError
from service.queue.store import Store
from service.signing import read_key

START_SECONDS = 120  # servers that start at the same time may take this long


@retry(
    retry=retry_if_exception_type(UnavailableError),
    stop=stop_after_delay(START_SECONDS),
    wait=wait_fixed(2),
    reraise=True,
)
def prepare(loaded: settings.Settings, user: str, token_file: Path) -> None:
    auth.read_secret(loaded.secret_file)
    read_key(loaded.signing_key_file)
    if loaded.ray_token_file and not loaded.ray_token_file.exists():
        auth.write_private(loaded.ray_token_file, secrets.token_hex(32))
    Artifacts(loaded.storage()).ensure_bucket()
    store = Store(loaded.database_url)
    try:
        store.migrate()
        if (
            not token_file.exists()
        ):  # written first: a token that nobody has is of no use, the other way is mended below
            auth.write_private(token_file, auth.new_token() + "\n")
        token = token_file.read_text().strip()
        known = store.token_user(token)
        store.add_token(user if known is None else known.name, token, admin=True)
    finally:
        store.close()


if __name__ == "__main__":
    try:
        prepare(settings.load(), sys.argv[1], Path(sys.argv[2]))
    except VaesvcError as error:
        sys.exit(f"prepare: {error}")
    sys.stderr.write(f"prepared; the token of {sys.argv[1]} is in {sys.argv[2]}\n")
