"""The calls for logins: the part of `service.client.Client` that is about them. None but the last needs a token."""

from __future__ import annotations

from service.data.calls import Http
from service.oidc.records import LoginFinish, LoginOffer, LoginReply, LoginRequest, LoginStart
from service.users.records import Revoked


class LoginCalls:
    """Calls about logins."""

    def __init__(self, http: Http, read_seconds: float) -> None:
        self._http = http
        self._read_seconds = read_seconds  # the API waits on the provider meanwhile

    def offer(self) -> LoginOffer:
        """Return how one may log in. Raises UsageError where there is no provider."""
        return self._http.call("GET", "/v1/login", LoginOffer.model_validate_json, read_seconds=self._read_seconds)

    def begin(self, request: LoginRequest) -> LoginStart:
        """Begin a login; one that is never ended is forgotten."""
        return self._http.call(
            "POST", "/v1/login", LoginStart.model_validate_json, body=request, read_seconds=self._read_seconds
        )

    def finish(self, request: LoginFinish) -> LoginReply:
        """End a login, or ask whether it can be ended. The same again gives the same."""
        return self._http.call(
            "POST", "/v1/login/finish", LoginReply.model_validate_json, body=request, read_seconds=self._read_seconds
        )

    def logout(self) -> Revoked:
        """End the login that the token came of. Raises ConflictError for a token that came of none."""
        return self._http.call("DELETE", "/v1/login", Revoked.model_validate_json)
