"""What the dispatcher makes of nodes that are drained, and of whoever tells of them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service.dispatch.drain_notices import DrainNotices
from service.dispatch.machines import Machines
from service.dispatch.ray_jobs import RayNode
from service.errors import UnavailableError
from tests.servers import wait_for

HEAD = RayNode(id="h", address="10.0.0.1", head=True, resources={"CPU": 1.0})
NODES = tuple(RayNode(id=name, address=f"10.0.0.{name}", resources={"CPU": 4.0}) for name in "23")
SAYS = "import json, time\nprint('a library says this', flush=True)\n"
FOREVER = "time.sleep(600)\n"


class Ray:
    """Two nodes beside the head; a-1 on one, b-1 on both."""

    def nodes(self) -> tuple[RayNode, ...]:
        return (HEAD, *NODES)

    def places(self) -> dict[str, frozenset[str]]:
        return {"a-1": frozenset("2"), "b-1": frozenset("23")}


class Notices:
    def __init__(self, **draining: float | None) -> None:
        self.draining = {name.removeprefix("n"): at for name, at in draining.items()}

    def read(self) -> Mapping[str, float | None]:
        return self.draining


def machines(notices: Notices, ray: Any = None) -> Machines:
    return Machines(ray or Ray(), notices)


def test_nothing_is_planned_on_a_node_that_is_drained_and_whoever_is_on_it_is_known() -> None:
    notices = Notices()
    seen = machines(notices)
    assert seen.look().total() == {"CPU": 9.0}
    assert not seen.draining
    assert seen.drained(["a-1", "b-1"]) == {}
    notices.draining = {"3": 1000.0, "gone": None}  # Ray forgets a node that is gone later than its nodes do
    assert seen.look().nodes == ({"CPU": 1.0}, {"CPU": 4.0})
    drained = seen.drained(["a-1", "b-1", "c-1"])
    assert {name: [node.node for node in nodes] for name, nodes in drained.items()} == {"b-1": ["3"]}
    assert str(drained["b-1"][0]) == "node 3 (10.0.0.3) is being drained, and is gone at 1970-01-01 00:16:40 UTC"
    notices.draining = {}
    assert seen.look().total() == {"CPU": 9.0}


def test_with_the_head_go_all_attempts_and_none_starts() -> None:
    seen = machines(Notices(h=None))
    assert seen.look().nodes == ()
    assert set(seen.drained(["a-1", "c-1"])) == {"a-1", "c-1"}


def test_where_ray_does_not_tell_no_node_is_to_be_kept_away_from() -> None:
    class Silent(Ray):
        def places(self) -> dict[str, frozenset[str]]:
            raise UnavailableError("Ray does not answer")

    assert machines(Notices(), Silent()).of("a-1") == frozenset()
    assert machines(Notices()).of("b-1") == frozenset("23")
    assert machines(Notices()).of("c-1") == frozenset()


# --- the process that asks Ray --------------------------------------------------------------------------------------


@pytest.fixture
def watched() -> Iterator[list[DrainNotices]]:
    started: list[DrainNotices] = []
    yield started
    for notices in started:
        notices.close()


def asking(code: str, watched: list[DrainNotices]) -> DrainNotices:
    watched.append(DrainNotices("10.0.0.1:6379", None, command=(sys.executable, "-c", code)))
    return watched[-1]


def test_what_the_process_says_last_is_known(watched: list[DrainNotices]) -> None:
    first, last = {"draining": {"2": 0, "3": 5000}}, {"draining": {"3": 5000}}
    said = f"print(json.dumps({first!r}), flush=True)\nprint(json.dumps({last!r}), flush=True)\n"
    notices = asking(SAYS + said + FOREVER, watched)
    wait_for(lambda: notices.read() == {"3": 5.0}, 60, "it does not say so")
    assert notices.read() == {"3": 5.0}


def test_a_process_that_ends_is_started_again_later_and_it_is_said_once(
    watched: list[DrainNotices], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    monkeypatch.setattr("service.dispatch.drain_notices._AGAIN_SECONDS", 0.0)
    count = tmp_path / "count"
    error = json.dumps({"error": "RpcError: no GCS there"})
    notices = asking(f"open({str(count)!r}, 'a').write('x')\nprint({error!r}, flush=True)\n", watched)

    def three() -> bool:
        assert notices.read() == {}
        return count.exists() and len(count.read_text()) >= 3

    with caplog.at_level(logging.WARNING, "vaesvc.dispatcher"):
        wait_for(three, 60, "it is not started again")
    (said,) = caplog.messages
    assert (
        said == "which nodes are drained is not known, Ray's GCS at 10.0.0.1:6379: RpcError: no GCS there (trying on)"
    )


def test_another_ray_that_does_not_tell_is_asked_no_more(
    watched: list[DrainNotices], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    monkeypatch.setattr("service.dispatch.drain_notices._AGAIN_SECONDS", 0.0)
    count = tmp_path / "count"
    error = json.dumps({"error": "Ray 3.0 does not tell", "lasting": True})
    notices = asking(f"open({str(count)!r}, 'a').write('x')\nprint({error!r}, flush=True)\n", watched)
    with caplog.at_level(logging.WARNING, "vaesvc.dispatcher"):
        wait_for(lambda: bool(notices.read() or caplog.messages), 60, "nothing is said")
        for _ in range(5):
            assert notices.read() == {}
            time.sleep(0.05)
    assert caplog.messages == [
        "which nodes are drained is not known, Ray's GCS at 10.0.0.1:6379: Ray 3.0 does not tell"
    ]
    assert count.read_text() == "x"


def test_what_hangs_is_ended_and_what_it_said_is_believed_for_a_while(
    watched: list[DrainNotices], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = json.dumps({"draining": {"2": 0}})
    notices = asking(f"import time\nprint({said!r}, flush=True)\n{FOREVER}", watched)
    wait_for(lambda: notices.read() == {"2": None}, 60, "it does not say so")
    monkeypatch.setattr("service.dispatch.drain_notices._SILENT_SECONDS", 0.0)
    assert notices.read() == {"2": None}  # and it is ended
    assert "has said nothing for 0 s" in caplog.text
    monkeypatch.setattr("service.dispatch.drain_notices._KEPT_SECONDS", 0.0)
    assert notices.read() == {}
