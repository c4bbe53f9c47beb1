"""Settings of the login by a provider: the table `[oidc]`, `VAESVC_OIDC_...`. With no issuer there is no such login."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from service.queue.roles import Role
from service.setting_types import AbsolutePath, Address, read_secret

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
HOUR = 3600.0
DAY = 86_400.0


def safe_address(url: str) -> str:
    """Return an address that secrets may be sent to. Raises ValueError for one without TLS beyond this machine."""
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        return url
    raise ValueError("it begins with https://; http:// is taken for this machine's loopback alone")


def _issuer(url: str | None) -> str | None:
    if url is not None and (urlsplit(url).query or urlsplit(url).fragment):
        raise ValueError("an issuer's address has no query and no fragment")
    return url if url is None else safe_address(url)


def _openid(scopes: str) -> str:
    if "openid" not in scopes.split():
        raise ValueError("openid must be among the scopes: without it there is no ID token")
    return scopes


def pairs(text: str) -> dict[str, str]:
    """Return `GROUP=VALUE; GROUP=VALUE` as a mapping, in its order. Raises ValueError for another form."""
    read: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(";"))):
        group, between, value = part.rpartition("=")
        if not between or not group.strip() or not value.strip():
            raise ValueError(f"{part!r} is not GROUP=VALUE; several are parted by semicolons")
        read[group.strip()] = value.strip()
    return read


def _roles(text: str) -> str:
    known = {role.value for role in Role}
    if wrong := [role for role in pairs(text).values() if role not in known]:
        raise ValueError(f"{wrong[0]!r} is no role: {', '.join(role.value for role in Role)}")
    return text


def _pairs(text: str) -> str:
    pairs(text)
    return text


class OidcSettings(BaseModel):
    """How users log in by a provider."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    issuer: Annotated[Address | None, AfterValidator(_issuer)] = None  # exactly as the provider's discovery names it
    client_id: str = ""
    client_secret: SecretStr | None = None  # or the file it is in; none: a public client
    client_secret_file: AbsolutePath | None = None
    cli_client_id: str = ""  # another client for the command line (many providers want a "native" one)
    cli_client_secret: SecretStr | None = None
    cli_client_secret_file: AbsolutePath | None = None
    scopes: Annotated[str, AfterValidator(_openid)] = "openid profile email"
    name_claim: str = "preferred_username"  # the user's name here; users must not be able to choose it themselves
    groups_claim: str = "groups"  # a claim's name, or a path: realm_access.roles
    roles: Annotated[str, AfterValidator(_roles)] = ""  # GROUP=ROLE; ...: the highest counts, anew at each login
    groups: Annotated[str, AfterValidator(_pairs)] = ""  # GROUP=GROUP; ...: the first counts, anew at each login
    domains: str = ""  # verified mail addresses in these alone, parted by commas; left out: any
    new_users: Literal["refuse", "viewer", "user"] = "refuse"  # who is unknown: refused, or made with this role
    seconds: float = Field(default=12 * HOUR, ge=HOUR, le=90 * DAY)  # a login lasts so long
    page_url: Address | None = None  # MLflow's pages, as browsers find them; left out: mlflow_uri

    def role_of(self) -> Mapping[str, Role]:
        """Return the role of each of the provider's groups that gives one."""
        return {group: Role(role) for group, role in pairs(self.roles).items()}

    def group_of(self) -> Mapping[str, str]:
        """Return our group of each of the provider's groups that has one, in the order of the setting."""
        return pairs(self.groups)

    def allowed_domains(self) -> frozenset[str]:
        """Return the domains of mail addresses that are let in, in lower case; empty: all."""
        return frozenset(filter(None, (part.strip().lower().lstrip("@") for part in self.domains.split(","))))

    def client(self, *, cli: bool) -> tuple[str, str | None]:
        """Return id and secret of the provider's client: the page's, or the command line's, which may be the same.

        Raises AuthError for a secret's file that cannot be read.
        """
        if cli and self.cli_client_id:
            given, file, name = self.cli_client_secret, self.cli_client_secret_file, "cli_client_secret_file"
            identifier = self.cli_client_id
        else:
            given, file, name = self.client_secret, self.client_secret_file, "client_secret_file"
            identifier = self.client_id
        if given is not None:
            return identifier, given.get_secret_value()
        return identifier, None if file is None else read_secret(file, f"oidc.{name}")
