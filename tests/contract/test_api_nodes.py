"""Nodes through the API and the command line: everybody sees them, operators drain and resume them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from service import __version__, auth, wire
from service.cli import nodes as command
from service.cli.main import app
from service.errors import ForbiddenError
from service.kinds.train.spec import resolve
from service.queue.node_records import SeenNode
from service.queue.roles import Role, sha256
from tests.api_server import Api, running_api, settings_in

RECIPE = "digits/beta-vae-mlp"
HEAD = SeenNode(id="c0ffee", address="10.0.0.1", head=True, resources={"CPU": 1.0, "memory": 2.0**31})
WORKER = SeenNode(id="decade", address="fd00::2", resources={"CPU": 4.0, "GPU": 2.0})


@pytest.fixture
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    read = getattr(request, "param", "all")
    with running_api(settings_in(tmp_path_factory.mktemp("nodes"), read=read)) as running:
        running.store.nodes.observe([HEAD, WORKER])
        yield running


def token(api: Api, name: str, role: Role) -> str:
    made = auth.new_token()
    api.store.users.put(name, role)
    api.store.users.put_token(name, "main", sha256(made))
    return made


def vaesvc(api: Api, token: str, *arguments: str) -> Result:
    env = {"VAESVC_CONFIG": "", "VAESVC_API_URL": api.url, "VAESVC_TOKEN": token}
    return CliRunner().invoke(app, ("node", *arguments), env=env)


def test_operators_drain_and_resume_with_a_note_in_the_audit_log_and_viewers_look(api: Api) -> None:
    operator, viewer = token(api, "opal", Role.OPERATOR), token(api, "vera", Role.VIEWER)
    done = vaesvc(api, operator, "drain", "fd00::2", "--because", "new memory", "--for", "2h")
    assert done.exit_code == 0, done.output
    assert "Attempts there give way. Wait for them: vaesvc node drain fd00::2 --wait" in done.output
    table = vaesvc(api, viewer, "list").output
    assert "decade" in table
    assert "by opal, until" in table
    assert "new memory" in table
    assert "10.0.0.1 (head)" in table
    (drained,) = [node for node in json.loads(vaesvc(api, viewer, "list", "--json").output) if node["drain"]]
    assert drained["drain"]["until"] == pytest.approx(time.time() + 7200, abs=600)
    for change in ("drain", "resume"):
        assert isinstance(vaesvc(api, viewer, change, "decade").exception, ForbiddenError)
    assert "in use" in vaesvc(api, operator, "resume", "dec").output
    assert vaesvc(api, operator, "resume", "dec").exit_code == 0  # again
    acts = [(act.actor, act.act) for act in api.store.audit.acts(object="fd00::2")]  # the machine, however it was named
    assert acts == [("opal", f"POST /v1/nodes/{{node}}/{call}") for call in ("resume", "resume", "drain")]
    refused = [(act.actor, act.object) for act in api.store.audit.acts(refused=True)]
    assert refused == [("vera", "decade"), ("vera", "decade")]
    assert "with it go all attempts" in vaesvc(api, operator, "drain", "c0ffee").output


def test_wait_returns_when_the_dispatcher_has_seen_that_nothing_runs_there(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = token(api, "opal", Role.OPERATOR)
    looks = [(WORKER.id, ("a-1",)), (WORKER.id, ())]

    def look(seconds: float) -> None:
        """In the place of the pause: what a dispatcher writes down meanwhile."""
        (drain,) = api.store.nodes.drained().values()
        name, attempts = looks.pop(0)
        seen = SeenNode(id=name, address=WORKER.address, attempts=attempts, obeys=drain.since)
        api.store.nodes.observe([HEAD, seen])

    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=look, time=time.time))
    done = vaesvc(api, operator, "drain", "decade", "--wait")
    assert (done.exit_code, looks) == (0, []), done.output
    assert "waits for the dispatcher to look" in done.output
    assert "waits for a-1" in done.output
    assert "Attempts there give way" not in done.output
    resume = SimpleNamespace(sleep=lambda seconds: api.store.nodes.resume("decade"), time=time.time)
    monkeypatch.setattr(command, "time", resume)
    api.store.nodes.resume("decade")
    ended = vaesvc(api, operator, "drain", "decade", "--wait")
    assert "somebody resumed the node" in str(ended.exception)


@pytest.mark.parametrize("api", ["own"], indirect=True)
def test_whoever_sees_their_own_jobs_sees_their_own_attempts_alone(api: Api) -> None:
    jobs = [api.store.submit(resolve(RECIPE), owner=name).id for name in ("ann", "bob")]
    names = tuple(f"{job_id}-1" for job_id in jobs)
    api.store.nodes.observe([HEAD, SeenNode(id="decade", address="fd00::2", attempts=names)])
    with api.client() as ann, api.client(token(api, "opal", Role.OPERATOR)) as opal:
        assert [node.attempts for node in ann.nodes.all()] == [(), names[:1]]
        assert [node.attempts for node in opal.nodes.all()] == [(), names]


def test_what_is_claimed_keeps_away_from_drained_nodes(api: Api) -> None:
    api.store.nodes.drain("decade", by="opal")
    api.store.submit(resolve(RECIPE), owner="ann")
    (attempt,) = api.admit()
    with api.attempt_client(attempt) as runner:
        context = runner.claim(wire.ClaimRequest(runner_id="r1", version=__version__))
        assert (context.drained, context.avoid) == (("decade",), ())
        assert runner.drained() == ["decade"]
        api.store.nodes.resume("decade")
        assert runner.drained() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("drain", "nosuch"), "no node 'nosuch'; there are c0ffee (10.0.0.1), decade (fd00::2)"),
        (("resume", "nosuch"), "no node 'nosuch'; there are"),
        (("drain", "decade", "--until", "tomorrow"), "--until tomorrow: a moment has the form 2026-11-29"),
        (("drain", "decade", "--until", "2001-01-01"), "until: that moment has passed"),
        (("drain", "decade", "--for", "0"), "--for 0: give a span that ends later"),
        (("drain", "decade", "--for", "1h", "--until", "2099-01-01"), "give one of them"),
        (("drain", "decade", "--because", "x" * 501), "--because: 501 characters; at most 500"),
    ],
)
def test_mistakes_are_told(api: Api, arguments: tuple[str, ...], message: str) -> None:
    done = vaesvc(api, token(api, "opal", Role.OPERATOR), *arguments)
    assert done.exit_code != 0
    assert message in str(done.exception)
    assert api.store.nodes.drained() == {}
