"""The processes of a gang on a Ray cluster, as plain actors: placed together, joined in a process group, watched.

A process that Ray holds ready serves (`service.attempt.preload`), and there is none beside those that work. The gang is
started again when one of them dies; it then goes on from what lies in storage.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.attempt import preload
from service.attempt.assignment import HANDED_ON
from service.attempt.failures import worst
from service.attempt.ray_cluster import COLLECTIVE_SECONDS, PLACEMENT_SECONDS, PLACEMENT_TRIES, away_from
from service.attempt.reporting import Place
from service.attempt.stacks import tell_when_asked
from service.collector import collect_rarely
from service.errors import UnavailableError
from service.queue.jobs import Resources

MEMBER = "member"  # in what the work is given
_LOOK_SECONDS = 10.0  # between two questions whether a worker answers
_SILENT_SECONDS = 600.0  # a worker that is stopped, not dead
_ECHO_SECONDS = 1.5  # for the errors of the others, after the first: the cause may be among them
_LOG_SECONDS = 0.5  # for the workers' last lines to arrive
_ERROR_SECONDS = 2.0  # the same, where they say what is wrong

Work = Callable[[dict[str, Any]], None]


class GangFailed(Exception):  # noqa: N818 - says what is the case
    """Workers failed. worker_failures: their errors, by rank."""

    def __init__(self, worker_failures: Mapping[int, Exception]) -> None:
        super().__init__("; ".join(f"worker {rank}: {error}" for rank, error in worker_failures.items()))
        self.worker_failures = dict(worker_failures)


class NoRoomYet(UnavailableError):  # noqa: N818 - says what is the case
    """The gang found no room."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """The place of a process in its gang. meeting: the first one's address (host, port); None where it is alone."""

    rank: int
    world_size: int
    place: Place
    meeting: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class _Home:
    """Where a process is. node: Ray's name of its machine. waited: whether it was held ready."""

    node: str
    address: str
    pid: int
    waited: bool

    def __str__(self) -> str:
        return f"{self.address}, process {self.pid}, which {'waited ready' if self.waited else 'is new'}"


@dataclass(frozen=True, kw_only=True)
class Gang:
    """How a gang is started.

    name: of its folder, in which its processes work. restarts: after deaths of workers. avoid: Ray's ids of nodes that
    it keeps away from, unless it finds no room elsewhere. drained: of nodes that it keeps away from in any case
    """

    name: str
    resources: Resources
    restarts: int = 0
    avoid: Sequence[str] = ()
    drained: Sequence[str] = ()

    def run(self, work: Work, config: Mapping[str, Any]) -> dict[str, float]:
        """Run `work` in every process to its end; return the moments of its start, in seconds since 1970. Raises
        GangFailed, NoRoomYet.

        work: of a module, given `config` and its `Member`
        """
        for again in range(self.restarts + 1):
            with self.members() as members:
                errors = members.run(work, config)
                time.sleep(_ERROR_SECONDS if errors else _LOG_SECONDS)
            if not errors:
                return members.moments
            rank, failure = worst(errors)
            print(f"[vaesvc] worker {rank} failed: {failure.text}", flush=True)  # noqa: T201
            if failure.ends_attempt or again == self.restarts:
                raise GangFailed(errors)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def members(self) -> Iterator[_Members]:
        """Yield the processes, together on one machine where there is room; they end with the block."""
        import ray
        from ray.util.placement_group import remove_placement_group

        group = self._room(self.avoid)
        members = None
        try:
            seconds = PLACEMENT_SECONDS * PLACEMENT_TRIES
            if self.avoid and not group.wait(PLACEMENT_SECONDS):
                print("[vaesvc] there is no room on other nodes than those where it hung", flush=True)  # noqa: T201
                remove_placement_group(group)
                group = self._room()
            if not group.wait(seconds):
                asked = f"{self.resources.workers} workers with {self.resources.bundle()} each"
                raise NoRoomYet(f"{asked} found no room in {seconds:.0f} s")
            members = _Members(self, group)
            yield members
        finally:
            for actor in members.actors if members is not None else []:
                with contextlib.suppress(Exception):  # it may be gone
                    ray.kill(actor)
            with contextlib.suppress(Exception):
                remove_placement_group(group)

    def _room(self, avoid: Sequence[str] = ()) -> Any:
        """Return a placement group for the gang, which is not placed yet."""
        from ray.util.placement_group import placement_group

        workers = self.resources.workers
        without = (*avoid, *self.drained)
        elsewhere = [away_from(without)] * workers if without else None
        return placement_group([self.resources.bundle()] * workers, strategy="PACK", bundle_label_selector=elsewhere)


class _Members:
    """The processes of a gang that has its room."""

    def __init__(self, gang: Gang, group: Any) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.moments = {"placed": time.time()}
        self._homes: list[_Home] = []  # in the order of their ranks, once they have been asked
        self._meeting: tuple[str, int] | None = None
        bundle = gang.resources.bundle()
        environment = {name: os.environ[name] for name in HANDED_ON if os.environ.get(name)}
        actor = ray.remote(
            num_cpus=bundle["CPU"], memory=bundle.get("memory", 0), max_restarts=0, max_concurrency=2
        )(GangWorker)  # fmt: skip
        self.actors = [
            actor.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i))
            .remote(gang.name, environment)
            for i in range(gang.resources.workers)
        ]  # fmt: skip

    def on(self, nodes: Collection[str]) -> bool:
        """Return whether any of them is on one of these nodes."""
        return any(home.node in nodes for home in self._homes)

    def run(self, work: Work, config: Mapping[str, Any]) -> dict[int, Exception]:
        """Run `work` in all of them; return the errors by rank, empty where all came to their end.

        They may be given one work after another, as long as none has failed.
        """
        homes, errors = self._all([actor.prepare.remote(self.moments["placed"]) for actor in self.actors])
        if not errors and not self._homes:
            errors = self._meet([homes[i] for i in range(len(homes))])
        if errors:
            return errors
        nodes = [home.node for home in self._homes]
        running = []
        for rank, (actor, home) in enumerate(zip(self.actors, self._homes, strict=True)):
            place = Place(
                node=list(dict.fromkeys(nodes)).index(home.node),
                local_rank=nodes[:rank].count(home.node),
                alone=len(set(nodes)) == 1,
            )
            where = f"node_rank={place.node} local_rank={place.local_rank} on {home}"
            print(f"[vaesvc] world_rank={rank} {where}", flush=True)  # noqa: T201
            member = Member(rank=rank, world_size=len(nodes), place=place, meeting=self._meeting)
            running.append(actor.run.remote(work, {**config, MEMBER: member}))
        return self._all(running)[1]

    def _meet(self, homes: list[_Home]) -> dict[int, Exception]:
        """Give them their ranks, and a place to meet where there are several; return the error, if any, by rank.

        homes: of the actors
        """
        import ray

        self.moments["workers_ready"] = time.time()
        # ranks of one machine follow each other, as the bundles of a gang need not
        firsts = {homes[i].node: i for i in reversed(range(len(homes)))}
        order = sorted(range(len(homes)), key=lambda i: (firsts[homes[i].node], i))
        self.actors = [self.actors[i] for i in order]
        if len(self.actors) > 1:
            try:
                call = self.actors[0].meet.remote(homes[order[0]].address)
                self._meeting = ray.get(call, timeout=COLLECTIVE_SECONDS)
            except Exception as error:
                return {0: error}
        self._homes = [homes[i] for i in order]
        return {}

    def _all(self, calls: list[Any]) -> tuple[dict[int, Any], dict[int, Exception]]:
        """Return the answers and the errors of a call to each of them, by rank. After an error the rest is not waited
        for."""
        import ray

        waiting = {call: rank for rank, call in enumerate(calls)}
        answers: dict[int, Any] = {}
        errors: dict[int, Exception] = {}
        health = _Health(self.actors)

        def take(done: list[Any]) -> None:
            for call in done:
                rank = waiting.pop(call)
                try:
                    answers[rank] = ray.get(call)
                except Exception as error:
                    errors[rank] = error

        while waiting and not errors:
            take(ray.wait(list(waiting), num_returns=1, timeout=_LOOK_SECONDS)[0])
            errors |= health.silent(set(waiting.values()))
        if errors and waiting:
            take(ray.wait(list(waiting), num_returns=len(waiting), timeout=_ECHO_SECONDS)[0])
        return answers, errors


class HeldGang:
    """The gang that this process holds on to: it takes one work after another, and is started anew when one has failed.

    It ends with this process, which owns its actors and their room.
    """

    def __init__(self) -> None:
        self._resources: Resources | None = None
        self._members: _Members | None = None
        self._end = contextlib.ExitStack()

    def run(self, gang: Gang, work: Work, config: Mapping[str, Any]) -> None:
        """Run `work` in every process of a gang like this, the held one if it is, and is on no node that is drained;
        raises GangFailed, NoRoomYet."""
        try:
            if self._members is None or self._resources != gang.resources or self._members.on(gang.drained):
                self._end.close()
                self._resources, self._members = gang.resources, self._end.enter_context(gang.members())
            errors = self._members.run(work, config)
            if errors:
                time.sleep(_ERROR_SECONDS)
                raise GangFailed(errors)
        except BaseException:
            self._members = None
            self._end.close()
            raise


class _Health:
    """Whether the processes answer: one that is dead Ray tells of, one that is stopped it does not."""

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors
        self._asked: dict[int, tuple[Any, float]] = {}

    def silent(self, ranks: set[int]) -> dict[int, Exception]:
        """Return an error for each of these that has not answered for long; ask those that have."""
        import ray

        now = time.monotonic()
        errors: dict[int, Exception] = {}
        for rank in ranks:
            call, since = self._asked.get(rank, (None, now))
            if call is None or ray.wait([call], timeout=0)[0]:
                self._asked[rank] = (self._actors[rank].alive.remote(), now)
            elif now - since > _SILENT_SECONDS:
                errors[rank] = TimeoutError(f"worker {rank} has not answered for {now - since:.0f} s")
        return errors


class GangWorker:
    """One process of a gang. Its work runs in one thread, a second one answers."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        """Work in the gang's folder on this machine, which goes when the Ray session goes."""
        import ray

        collect_rarely()
        tell_when_asked()
        os.environ.update(environment)
        context = ray.get_runtime_context()
        folder = Path(context.get_temp_dir(), context.get_session_name(), "artifacts", name)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        self._meeting: Any = None
        self._joined = False

    def prepare(self, since: float) -> _Home:
        """Import what the work needs, unless this process waited ready; return where it is. Raises UnavailableError
        where a new process is needed. since: when it was asked for [s since 1970]"""
        import ray

        preload.check_current()
        preload.load()
        return _Home(
            node=ray.get_runtime_context().get_node_id(), address=ray.util.get_node_ip_address(),
            pid=os.getpid(), waited=preload.waited(since),
        )  # fmt: skip

    def meet(self, host: str) -> tuple[str, int]:
        """Open the place where the gang meets; return its address."""
        from vae_models.collectives import MeetingPoint

        self._meeting = MeetingPoint(host, COLLECTIVE_SECONDS)
        address: tuple[str, int] = self._meeting.address
        return address

    def alive(self) -> None:
        """Answer."""

    def run(self, work: Work, config: dict[str, Any]) -> None:
        """Join the process group, where there are others and it has not, and do the work."""
        from vae_models import collectives

        member: Member = config[MEMBER]
        if member.meeting is not None and not self._joined:
            meeting = self._meeting or member.meeting
            collectives.join(
                member.rank, member.world_size, meeting, backend="gloo", timeout_seconds=COLLECTIVE_SECONDS
            )  # fmt: skip
            self._joined = True
        try:
            work(config)
        except BaseException:
            traceback.print_exc()  # to the attempt's log; the error alone goes to the driver
            raise
