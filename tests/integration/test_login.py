"""Logins by a real provider (oidc-provider, certified by the OpenID Foundation): on the command line and of pages."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn

from service import auth, logins, services, serving
from service.cli import doctor
from service.client import Client
from service.errors import AuthError, ForbiddenError, UnavailableError, UsageError
from service.oidc import page
from service.oidc import provider as providers
from service.oidc.records import LoginFinish, LoginRequest
from service.oidc.settings import OidcSettings
from service.queue.roles import Role, sha256
from service.tracking.gate import Doorkeeper, Gate
from tests import browser
from tests.api_server import Api, running_api, settings_in
from tests.command import start, vaesvc
from tests.openid.browser import Person
from tests.openid.server import CLI, PAGE, PAGE_SECRET, OpenidProvider, free_port
from tests.servers import wait_for

PEOPLE: dict[str, dict[str, Any]] = {
    "id-ann": {"preferred_username": "ann.lee", "groups": ["staff"], "email": "ann@lab.example"},
    "id-bob": {"preferred_username": "bob", "groups": ["staff", "leads"], "email": "bob@lab.example"},
    "id-eve": {"preferred_username": "eve", "groups": ["guests"], "email": "eve@elsewhere.example"},
}
PEOPLE = {login: {**claims, "email_verified": True} for login, claims in PEOPLE.items()}


class Behind:
    """What the gate keeps: it says what reached it."""

    def __init__(self) -> None:
        self.reached: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.reached.append(dict(scope["headers"]))
            headers = [(b"content-type", b"text/html")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": f"at {scope['path']}".encode()})


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A provider, an API that it logs people in to, and pages behind the same login."""

    provider: OpenidProvider
    api: Api
    pages: str
    behind: Behind

    def client(self, token: str | None = None) -> Client:
        return Client(self.api.url, token)

    def acts(self, actor: str) -> list[tuple[str, int]]:
        return [(act.act, act.status) for act in self.api.store.audit.acts(actor=actor)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("login")
    listening = socket.create_server(("127.0.0.1", 0))
    pages = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        provider = OpenidProvider(root, pages, PEOPLE)
    except LookupError as why:
        pytest.skip(str(why))
    oidc = OidcSettings(
        issuer=provider.issuer, client_id=PAGE, client_secret=PAGE_SECRET, cli_client_id=CLI, new_users="refuse",
        roles="staff=user; leads=admin", page_url=pages, domains="lab.example",
    )  # fmt: skip
    settings = settings_in(root / "service", oidc=oidc)
    provider.start()
    with pytest.MonkeyPatch.context() as patient:  # a busy machine
        for module, name in ((providers, "READ_SECONDS"), (services, "LOGIN_SECONDS"), (page, "SECONDS")):
            patient.setattr(module, name, 60.0)
        try:
            with running_api(settings) as api, _pages(settings, api, listening) as behind:
                yield Scene(provider=provider, api=api, pages=pages, behind=behind)
        finally:
            provider.stop()
            listening.close()


@contextmanager
def _pages(settings: Any, api: Api, listening: socket.socket) -> Iterator[Behind]:
    """The gate as MLflow's server runs it, in front of `Behind`."""
    secret, behind = auth.read_secret(settings.secret_file), Behind()
    keeper = Doorkeeper(api.store, secret, everybody_reads=True)
    gate = Gate(behind, keeper, login=page.page_login(settings, api.store, secret))
    server = uvicorn.Server(serving.config(gate, timeout_graceful_shutdown=2, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started, 20, "the pages do not start")
    yield behind
    server.should_exit = True
    thread.join(20)


@pytest.fixture(autouse=True)
def _as_before(scene: Scene) -> Iterator[None]:
    yield
    scene.provider.tell(PEOPLE)
    for user in scene.api.store.users.all():
        if user.disabled_at is not None:
            scene.api.store.identities.disable(user.name, disabled=False)


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def shell(scene: Scene, tmp_path: Path) -> dict[str, str]:
    import os

    kept = {name: value for name, value in os.environ.items() if not name.startswith("VAESVC_")}
    own = {"VAESVC_HOME": str(tmp_path), "VAESVC_CONFIG": "", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    return kept | own | {"VAESVC_API_URL": scene.api.url, "COLUMNS": "200"}


def _reads(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """What a person reads on the terminal."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if (match := re.search(pattern, line)) is not None:
            return match
    raise AssertionError(said)


def test_a_command_line_logs_in_by_a_code_and_out_again(
    scene: Scene, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(shell, "login", "--no-open")
    read = _reads(process, r"Open (\S+) in any browser, and enter the code (\S+)")
    with Person("id-ann", code=read[2]) as ann:
        assert "Sign-in Success" in ann.open(read[1]).text  # the code was typed in
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Logged in as 'ann.lee', role user, until" in err
    monkeypatch.setenv("XDG_CONFIG_HOME", shell["XDG_CONFIG_HOME"])
    path = logins.path_of(scene.api.url)
    assert (Path(out.strip()), path.stat().st_mode & 0o777) == (path, 0o600)
    token = path.read_text().strip()
    with scene.client(token) as client:
        identity = client.identity()
        assert (identity.owner, identity.role) == ("ann.lee", "user")
        assert identity.token.startswith("cli-")
        assert identity.expires_at is not None
    assert token not in str(scene.api.store.tokens())
    assert ("POST /v1/login/finish", 200) in scene.acts("ann.lee")
    assert vaesvc(shell, "logout").stderr.strip() == "Logged out."
    assert not path.exists()
    with scene.client(token) as client, pytest.raises(AuthError, match="Log in again with `vaesvc login`"):
        client.identity()


def test_a_command_line_logs_in_by_a_browser_of_its_machine(scene: Scene, shell: dict[str, str]) -> None:
    process = start(shell, "login", "--browser", "--no-open", "--scope", "read", "--hours", "2")
    url = _reads(process, r"Open (\S+)")[1]
    back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    stranger = httpx.get(f"{back}?code=stolen&state=guessed", trust_env=False, timeout=60)
    assert (stranger.status_code, "not the login" in stranger.text) == (400, True)
    with Person("id-bob") as bob:
        assert "You are logged in" in bob.open(url).text
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    with scene.client(Path(out.strip()).read_text().strip()) as client:
        identity = client.identity()
        assert (identity.owner, identity.role, identity.scopes) == ("bob", "admin", ("read",))
        with pytest.raises(ForbiddenError, match="needs the scope admin"):
            client.users.all()
        assert 6000 < (identity.expires_at or 0) - client.users.tokens()[-1].created_at < 7300


def test_doctor_asks_the_provider(scene: Scene, tmp_path: Path) -> None:
    (finding,) = doctor._logins(scene.api.settings)
    assert (finding.level, finding.detail) == ("OK", f"{scene.provider.issuer}: codes and browsers, 1 keys")
    assert list(doctor._logins(settings_in(tmp_path))) == []


def by_code(scene: Scene, login: str, token: str, client: Client) -> LoginFinish:
    """What a command line sends in the end."""
    port = free_port()
    begun = client.logins.begin(LoginRequest(how="browser", port=port))
    with Person(login) as person:
        came = person.open(begun.url, until=f"http://127.0.0.1:{port}/")
    query = {name: values[0] for name, values in parse_qs(urlsplit(came.headers["location"]).query).items()}
    assert query["iss"] == scene.provider.issuer
    return LoginFinish(ticket=begun.ticket, sha256=sha256(token), **query)


def test_fault_04_a_code_is_for_its_login_alone_and_for_once(scene: Scene) -> None:
    with scene.client() as client:
        first, other = (auth.new_token(), auth.new_token())
        mine, theirs = by_code(scene, "id-ann", first, client), by_code(scene, "id-bob", other, client)
        for changed, why in (
            ({"state": theirs.state}, "state"),
            ({"ticket": theirs.ticket}, "state"),
            ({"ticket": theirs.ticket, "state": theirs.state}, "refuses the code"),  # another verifier (PKCE)
            ({"ticket": "x" * 200}, "was not begun here"),
            ({"iss": "http://127.0.0.1:1"}, "not from the provider that was asked"),
            ({"iss": None}, "not from the provider that was asked"),
        ):
            with pytest.raises(AuthError, match=why):
                client.logins.finish(mine.model_copy(update=changed))
        theirs = by_code(scene, "id-bob", other, client)
        made = client.logins.finish(theirs)
        assert made.token is not None
        assert client.logins.finish(theirs) == made  # the answer was lost
        with pytest.raises(AuthError):  # a second token of one login
            client.logins.finish(theirs.model_copy(update={"sha256": sha256("another")}))
    refused = [act for act in scene.api.store.audit.acts(refused=True) if act.act == "POST /v1/login/finish"]
    assert len(refused) >= 6


def test_who_is_not_let_in_is_told_why_and_roles_follow_the_provider(scene: Scene) -> None:
    with scene.client() as client:
        with pytest.raises(ForbiddenError, match=r"in none of the domains let in: lab\.example"):
            client.logins.finish(by_code(scene, "id-eve", auth.new_token(), client))
        client.logins.finish(by_code(scene, "id-bob", auth.new_token(), client))
        scene.provider.tell({"id-bob": {**PEOPLE["id-bob"], "groups": ["staff"]}})
        token = auth.new_token()
        reply = client.logins.finish(by_code(scene, "id-bob", token, client))
        assert reply.token is not None
        assert reply.token.role is Role.USER
        scene.provider.tell({"id-bob": {**PEOPLE["id-bob"], "groups": []}})
        with pytest.raises(ForbiddenError, match="none of your groups"):
            client.logins.finish(by_code(scene, "id-bob", auth.new_token(), client))
        scene.api.store.identities.disable("bob", disabled=True)
        scene.provider.tell(PEOPLE)
        with pytest.raises(ForbiddenError, match="'bob' is disabled here"):
            client.logins.finish(by_code(scene, "id-bob", auth.new_token(), client))
    with scene.client(token) as disabled, pytest.raises(AuthError, match="not known here"):
        disabled.identity()


# --- pages ----------------------------------------------------------------------------------------------------------


def ours(person: Person) -> list[Cookie]:
    """The cookies of the pages: the provider has the same host here, and cookies know no port."""
    return [cookie for cookie in person.http.cookies.jar if cookie.name.startswith("vaesvc_")]


def test_a_browser_logs_in_to_pages_and_out_again(scene: Scene) -> None:
    with Person("id-ann") as ann:
        shown = ann.open(f"{scene.pages}/?x=1&y=a%26b")
        assert (shown.status_code, shown.text) == (200, "at /")
        assert str(shown.url) == f"{scene.pages}/?x=1&y=a%26b"
        (cookie,) = ours(ann)
        assert (cookie.name, cookie.secure, cookie.path) == ("vaesvc_session", False, "/")
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "lax"
        assert cookie.value is not None
        assert cookie.value not in str(scene.behind.reached[-1])  # MLflow never sees it
        session = f"{scene.pages}/oidc/session"
        assert "ann.lee" in ann.http.get(session).text
        among = {"cookie": f'odd={{"a": [1, 2]}}; ;=; vaesvc_session={cookie.value}; bad cookie'}
        assert "ann.lee" in httpx.get(session, headers=among, trust_env=False, timeout=60).text
        for headers, status in (
            ({"origin": scene.pages}, 200),
            ({"sec-fetch-site": "same-origin"}, 200),
            ({}, 403),
            ({"origin": "http://127.0.0.1:1"}, 403),
            ({"origin": "null", "sec-fetch-site": "same-origin"}, 403),
        ):
            answer = ann.http.post(f"{scene.pages}/api/2.0/mlflow/runs/create", headers=headers, json={})
            assert answer.status_code == status, headers
        assert ann.http.post(f"{scene.pages}/oidc/logout").status_code == 403
        with scene.client(cookie.value) as client:  # a token as any other is
            assert client.identity().token.startswith("page-")
        gone = ann.http.post(f"{scene.pages}/oidc/logout", headers={"origin": scene.pages})
        assert (gone.status_code, ours(ann)) == (200, [])
        with scene.client(cookie.value) as client, pytest.raises(AuthError):
            client.identity()
    assert {("GET /oidc/callback", 200), ("POST /oidc/logout", 200)} <= set(scene.acts("ann.lee"))


def test_a_real_browser_logs_in_and_out_again(scene: Scene, tmp_path: Path) -> None:
    """What browsers make of cookies, redirections and a form's origin."""
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium: " + ", ".join(browser.NAMES))
    with browser.Browser(program, tmp_path / "profile") as chromium:
        chromium.open(f"{scene.pages}/", "Sign-in")
        chromium.run("for (const box of document.forms[0].querySelectorAll('[required]')) box.value = 'id-ann'")
        chromium.run("document.forms[0].submit()")
        chromium.wait("Continue")
        chromium.run("document.forms[0].submit()")
        chromium.wait("at /")
        assert chromium.run("location.href") == f"{scene.pages}/"
        assert "vaesvc" not in chromium.run("document.cookie")
        write = "fetch('/api/2.0/mlflow/runs/create', {method: 'POST', body: '{}'}).then(answer => answer.status)"
        assert chromium.run(write) == 200
        chromium.open(f"{scene.pages}/oidc/session", "You are ann.lee, role user")
        chromium.run("document.querySelector('button').click()")
        chromium.wait("The login is over here")
        chromium.open(f"{scene.pages}/oidc/session", "Nobody is logged in here")


def test_fault_04_a_way_back_is_of_this_browser_and_for_once(scene: Scene) -> None:
    back = f"{scene.pages}/oidc/callback"
    with Person("id-ann") as ann, Person("id-bob") as bob:
        to_ann = ann.open(f"{scene.pages}/oidc/login", until=back).headers["location"]
        to_bob = bob.open(f"{scene.pages}/oidc/login", until=back).headers["location"]
        for who, way in ((bob, to_ann), (ann, to_bob)):  # somebody else's login in one's own browser
            assert who.http.get(way).status_code == 401
            assert "vaesvc_session" not in [cookie.name for cookie in ours(who)]
        again = ann.open(f"{scene.pages}/oidc/login", until=back).headers["location"]
        login_cookie = {"cookie": f"vaesvc_login={ann.http.cookies['vaesvc_login']}"}
        assert ann.http.get(again).status_code == 303
        with httpx.Client(trust_env=False, timeout=60) as thief:  # the same way once more, cookie and all
            assert thief.get(again, headers=login_cookie).status_code == 401
            assert thief.get(again).status_code == 401
            declined = thief.get(f"{back}?error=access_denied&state=x", headers=login_cookie)
            assert declined.status_code == 401
    with Person("id-eve") as eve:
        refused = eve.open(f"{scene.pages}/")
        assert (refused.status_code, "in none of the domains" in refused.text) == (403, True)


def test_programs_are_asked_for_a_token_as_before(scene: Scene) -> None:
    answer = httpx.get(f"{scene.pages}/version", trust_env=False, timeout=60)
    assert (answer.status_code, answer.headers["www-authenticate"][:5]) == (401, "Basic")
    inside = {"sec-fetch-mode": "cors", "accept": "text/html"}  # a page whose login is over asks no password
    answer = httpx.get(f"{scene.pages}/version", headers=inside, trust_env=False, timeout=60)
    assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, None)
    bearer = {"authorization": f"Bearer {scene.api.token}"}
    assert httpx.get(f"{scene.pages}/version", headers=bearer, trust_env=False, timeout=60).status_code == 200


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example/", "/\\evil.example"])
def test_fault_04_a_login_leads_back_to_these_pages_alone(scene: Scene, path: str) -> None:
    with Person("id-ann") as ann:
        url = httpx.URL(f"{scene.pages}/oidc/login", params={"next": path})
        assert str(ann.open(str(url)).url) == f"{scene.pages}/"


# --- the provider ---------------------------------------------------------------------------------------------------


def test_a_provider_with_new_keys_or_without_codes_or_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(providers, "KEYS_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(providers, "METADATA_SECONDS", 0.0)
    monkeypatch.setattr(providers, "RETRY_SECONDS", 0.5)
    with Client(scene.api.url, retry_seconds=0.0) as client:
        assert client.logins.finish(by_code(scene, "id-ann", auth.new_token(), client)).token is not None
        scene.provider.stop()
        with pytest.raises(UnavailableError, match="the provider does not answer"):
            client.logins.offer()
        scene.provider.start(device=False, key="second")
        assert client.logins.finish(by_code(scene, "id-ann", auth.new_token(), client)).token is not None
        assert not client.logins.offer().device
        with pytest.raises(UsageError, match="vaesvc login --browser"):
            client.logins.begin(LoginRequest(how="device"))
        with pytest.raises(UsageError, match="needs the port"):
            client.logins.begin(LoginRequest(how="browser"))
    other = OidcSettings(issuer=f"{scene.provider.issuer}/", client_id=CLI)
    with (
        running_api(settings_in(tmp_path, oidc=other)) as api,
        Client(api.url, retry_seconds=0.0) as client,
        pytest.raises(UnavailableError, match="must be equal, to the last character"),
    ):
        client.logins.offer()
