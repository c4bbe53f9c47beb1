"""Who somebody is here, by their provider's claims; the tickets of a login; the settings."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from service import logins, settings
from service.errors import AuthError, ForbiddenError, UsageError
from service.oidc import tickets
from service.oidc.identity import identity_of, lacks
from service.oidc.settings import OidcSettings
from service.oidc.signing_in import local_path, provider_of
from service.queue.roles import Role

CLAIMS = {
    "iss": "https://login.example", "sub": "u1", "preferred_username": "ann", "email": "ann@Lab.example",
    "email_verified": True, "groups": ["staff", "cn=vision,dc=lab"], "realm_access": {"roles": ["vae-admin"]},
}  # fmt: skip


def identity(claims: dict[str, Any] | None = None, **values: Any) -> Any:
    return identity_of({**CLAIMS, **(claims or {})}, OidcSettings(**values))


def test_without_settings_a_user_is_who_they_are_and_the_unknown_are_refused() -> None:
    known = identity()
    assert (known.issuer, known.subject, known.name) == ("https://login.example", "u1", "ann")
    assert (known.role, known.new_role, known.groups, known.group) == (None, None, None, None)
    assert identity(new_users="viewer").new_role is Role.VIEWER


def test_the_highest_role_of_the_groups_counts_and_who_has_none_is_refused_or_new() -> None:
    roles = "staff=user; cn=vision,dc=lab=operator; others=admin"
    assert identity(roles=roles).role is Role.OPERATOR
    assert identity(roles="vae-admin=admin", groups_claim="realm_access.roles").role is Role.ADMIN
    with pytest.raises(ForbiddenError, match="none of your groups at the provider is let in here: others"):
        identity(roles="others=admin")
    assert identity(roles="others=admin", new_users="viewer").role is Role.VIEWER
    for groups in (None, 5, [["staff"]], {"staff": True}):
        with pytest.raises(ForbiddenError):
            identity({"groups": groups}, roles="staff=user")
    assert identity({"groups": "staff"}, roles="staff=user").role is Role.USER


def test_the_first_group_that_fits_is_ours() -> None:
    known = identity(groups="others=text; cn=vision,dc=lab=vision; staff=all")
    assert (known.group, known.groups) == ("vision", {"others": "text", "cn=vision,dc=lab": "vision", "staff": "all"})
    assert identity(groups="others=text").group is None


def test_mail_addresses_are_looked_at_when_the_provider_has_verified_them() -> None:
    assert identity(domains="other.example, @LAB.example").name == "ann"
    with pytest.raises(ForbiddenError, match=r"in none of the domains let in: other\.example"):
        identity(domains="other.example")
    for verified in (False, None, "false", 1):
        for values in ({"domains": "lab.example"}, {"name_claim": "email"}):
            with pytest.raises(ForbiddenError, match="has verified your mail address"):
                identity({"email_verified": verified}, **values)
    assert identity(name_claim="email").name == "ann@Lab.example"
    with pytest.raises(ForbiddenError, match="in none of the domains"):
        identity({"email": "ann@lab.example.evil"}, domains="lab.example")


@pytest.mark.parametrize("name", [None, 5, "", "a b", "-ann", "a" * 65, "ann\n", "ann/../root", "änn"])
def test_a_name_that_cannot_be_a_users_is_refused(name: Any) -> None:
    with pytest.raises(ForbiddenError, match="preferred_username"):
        identity({"preferred_username": name})


def test_claims_that_are_asked_for_and_not_there_are_looked_for_elsewhere() -> None:
    bare = {"iss": "i", "sub": "s"}
    assert lacks(bare, OidcSettings())
    assert not lacks({**bare, "preferred_username": "ann"}, OidcSettings())
    assert lacks({**bare, "preferred_username": "ann"}, OidcSettings(roles="a=user"))
    assert lacks({**bare, "preferred_username": "ann"}, OidcSettings(domains="lab.example"))
    assert not lacks(CLAIMS, OidcSettings(roles="a=user", groups="a=b", domains="lab.example"))


# --- tickets --------------------------------------------------------------------------------------------------------

SECRET = b"s" * 32
TICKET = tickets.Ticket(purpose="page", label="page-1", state="s", nonce="n", verifier="v", redirect="r")


def test_a_ticket_is_read_by_who_sealed_it_for_its_purpose_and_while_it_lives() -> None:
    sealed = tickets.seal(SECRET, TICKET)
    assert tickets.unseal(SECRET, sealed, "browser", "page") == TICKET
    assert "page-1" not in str(base64.urlsafe_b64decode(sealed))
    for secret, text in ((b"t" * 32, sealed), (SECRET, sealed[:-9] + "A" * 9), (SECRET, ""), (SECRET, "\xff")):
        with pytest.raises(AuthError, match="was not begun here"):
            tickets.unseal(secret, text, "page")
    with pytest.raises(AuthError, match="for another purpose"):
        tickets.unseal(SECRET, sealed, "device")
    cipher: Fernet = tickets._cipher(SECRET)
    old = cipher.encrypt_at_time(TICKET.model_dump_json().encode(), int(time.time() - tickets.LIFE_SECONDS - 5))
    with pytest.raises(AuthError, match="longer than 15 minutes ago"):
        tickets.unseal(SECRET, old.decode(), "page")


def test_the_state_that_comes_back_is_that_of_the_login() -> None:
    tickets.check_state(TICKET, "s")
    for state in ("", "t", "s "):
        with pytest.raises(AuthError, match="state"):
            tickets.check_state(TICKET, state)
    with pytest.raises(AuthError, match="state"):
        tickets.check_state(TICKET.model_copy(update={"state": ""}), "")


def test_the_challenge_is_that_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert tickets.challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert 43 <= len(tickets.random_text()) <= 128


@given(st.text())
def test_a_login_never_leads_to_another_address(path: str) -> None:
    went = local_path(path)
    assert went.startswith("/")
    assert not went.startswith("//")
    assert "\\" not in went
    assert went in ("/", path)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("issuer", "http://login.example", "https"),
        ("issuer", "https://login.example/?a=b", "no query"),
        ("scopes", "profile email", "openid must be among"),
        ("roles", "staff", "is not GROUP=VALUE"),
        ("roles", "staff=root", "'root' is no role: viewer, user, operator, admin"),
        ("new_users", "admin", "refuse"),
        ("seconds", "10", "3600"),
    ],
)
def test_a_setting_that_is_wrong_says_so(name: str, value: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"oidc\.{name}.*VAESVC_OIDC_{name.upper()}.*{why}"):
        settings.load({"VAESVC_CONFIG": "", f"VAESVC_OIDC_{name.upper()}": value})


def test_a_secret_is_never_shown_and_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    loaded = settings.load({"VAESVC_CONFIG": "", "VAESVC_OIDC_CLIENT_SECRET": "hush", "VAESVC_OIDC_CLIENT_ID": "a"})
    assert "hush" not in repr(loaded)
    assert loaded.oidc.client(cli=False) == loaded.oidc.client(cli=True) == ("a", "hush")
    other = OidcSettings(client_id="a", client_secret_file=file, cli_client_id="b")
    assert (other.client(cli=False), other.client(cli=True)) == (("a", "from a file"), ("b", None))
    with pytest.raises(AuthError, match="cannot read"):
        OidcSettings(client_id="a", client_secret_file=tmp_path / "none").client(cli=False)


def test_without_an_issuer_there_is_no_provider_and_without_a_client_it_says_so() -> None:
    assert provider_of(OidcSettings(), cli=True) is None
    with pytest.raises(UsageError, match=r"oidc\.client_id is not"):
        provider_of(OidcSettings(issuer="https://login.example"), cli=True)


def test_a_login_is_kept_for_one_service_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    one, other = "https://vaesvc.example", "https://vaesvc.example:8443/path"
    logins.keep(logins.path_of(one), "first")
    logins.keep(logins.path_of(one), "second")
    assert (logins.token(one), logins.token(other)) == ("second", None)
    assert logins.path_of(one).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in logins.path_of(one).parent.iterdir()] == [logins.path_of(one).name]
    found = settings.load({"VAESVC_CONFIG": "", "VAESVC_HOME": str(tmp_path), "VAESVC_API_URL": one})
    assert found.user_token() == "second"
    for url, by_hand in ((one, "by hand"), (other, "")):
        env = {"VAESVC_CONFIG": "", "VAESVC_HOME": str(tmp_path), "VAESVC_API_URL": url, "VAESVC_TOKEN": by_hand}
        assert settings.load(env).user_token() == (by_hand or None)
