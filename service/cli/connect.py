"""From the settings to a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import UnavailableError

if TYPE_CHECKING:
    from service.client import Client
    from service.settings import Settings


def client(settings: Settings | None = None) -> Client:
    """Return the API that the settings name. Raises UnavailableError where they name none."""
    from service import settings as module
    from service.client import Client

    known = settings or module.load()
    if known.api_url is None:
        raise UnavailableError(
            "no service is set up: start the local stack with `vaesvc up`, or set VAESVC_API_URL (and VAESVC_TOKEN or "
            "VAESVC_TOKEN_FILE) to one that runs"
        )
    return Client(known.api_url, known.user_token())
