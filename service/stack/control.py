"""up, down, status. `up` compares what should run with what does and mends the difference; repeat it at any time."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from service.errors import UnavailableError, UsageError, VaesvcError
from service.settings import Settings, with_stack
from service.stack import database, ports, process, state
from service.stack.mlflow_server import MLFLOW
from service.stack.our_parts import API, DISPATCHER
from service.stack.part import Launch, Part, Site, Unit
from service.stack.ray_head import RAY
from service.stack.s3 import S3

UNITS: tuple[Unit, ...] = (RAY, MLFLOW, S3, API, DISPATCHER)  # the slowest first, whatever needs others last
PORT_ROUNDS = 3  # somebody else may take a port between our look and the daemon's bind
KEEP_SECONDS = 15.0  # a running daemon may take this long to answer before it counts as hung
POLL_SECONDS = 0.2

Report = Callable[[str], None]


class PortTakenError(UnavailableError):
    """Another process listens where a part should: choose again."""


def up(settings: Settings, report: Report, only: Sequence[str]) -> list[Part]:
    """Start the stack: see `service.stack.up`."""
    state.create(settings.home)
    units = [unit for unit in UNITS if not only or unit.name in only]
    with state.locked(settings.home, report):
        for left in reversed(range(PORT_ROUNDS)):
            try:
                return _Bring(settings, units, report).up()
            except PortTakenError as error:
                if not left:
                    raise
                report(f"{error}; choosing other ports")
    raise AssertionError("the last round returns or raises")


def down(settings: Settings, report: Report) -> None:
    """End the stack: see `service.stack.down`."""
    home = settings.home
    if not home.exists():
        return
    state.create(home)
    with state.locked(home, report):
        for together in ((DISPATCHER,), (API, RAY, MLFLOW), (S3,)):  # nobody talks to a part that has gone
            with ThreadPoolExecutor(len(together)) as pool:
                endings = [pool.submit(_end, settings, unit, report) for unit in together]
            for ending in endings:
                ending.result()
        with contextlib.suppress(UsageError):  # a damaged file: it is in nobody's way, and `up` says what to do
            state.write(home, replace(state.read(home), running=False, settings={}))


def status(settings: Settings, only: Sequence[str]) -> list[Part]:
    """Return every part: see `service.stack.status`."""
    looks: list[Callable[[], Part]] = []
    if API.outside(settings) is None and (not only or "database" in only):
        looks.append(partial(database.look, settings))
    for name in ("s3", "mlflow", "ray", "api", "dispatcher"):
        unit = next(unit for unit in UNITS if unit.name == name)
        if not only or name in only:
            looks.append(partial(_look, settings, unit))
    with ThreadPoolExecutor(len(looks)) as pool:
        return [future.result() for future in [pool.submit(look) for look in looks]]


def _look(settings: Settings, unit: Unit) -> Part:
    outside = unit.outside(settings)
    identity = process.recorded(state.record(settings.home, unit.name))
    address = unit.address(settings)
    part = Part(name=unit.name, ok=False, address=address, log=state.log(settings.home, unit.name))
    if outside:
        part = replace(part, log=None, detail=f"named by {settings.origin(outside)}")
    elif identity is None:
        return replace(part, detail="not started; `vaesvc up` starts it", log=None)
    elif not process.alive(identity):
        return replace(part, detail="died; `vaesvc up` starts it again")
    else:
        part = replace(part, pid=identity.pid, detail=unit.hint(settings))
    try:
        unit.check(settings)
    except VaesvcError as error:
        return replace(part, detail=str(error))
    return replace(part, ok=True)


def _end(settings: Settings, unit: Unit, report: Report) -> None:
    record = state.record(settings.home, unit.name)
    since = time.monotonic()
    count = process.end(state.mark(settings.home, unit.name), process.recorded(record), unit.stop_seconds)
    record.unlink(missing_ok=True)
    seconds = time.monotonic() - since
    killed = f"  killed: it had not ended in {unit.stop_seconds:.0f} s" if seconds >= unit.stop_seconds else ""
    if count:
        report(f"{unit.name:<11} ended, {count} processes {seconds:6.1f} s{killed}")


class _Bring:
    """One round of `up`."""

    def __init__(self, settings: Settings, units: Sequence[Unit], report: Report) -> None:
        self.given = settings
        self.home = settings.home
        self.units = units
        self.report = report
        self.stop = threading.Event()
        self.ports = self._choose_ports()
        self.settings = with_stack(settings, self._announce())

    def up(self) -> list[Part]:
        began = time.monotonic()
        done: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(len(self.units) + 1, thread_name_prefix="up") as pool:
            try:
                if API in self.units and API.outside(self.given) is None:
                    done["database"] = pool.submit(
                        self._timed, "database", (), partial(database.prepare, self.settings)
                    )
                for unit in self.units:  # in an order in which every need comes earlier
                    needs = tuple(done[name] for name in unit.needs if name in done)
                    done[unit.name] = pool.submit(self._timed, unit.name, needs, partial(self._mend, unit))
                _raise_worst(done)
            except BaseException:
                self.stop.set()  # Ctrl-C: don't wait for the deadlines
                raise
        self.report(f"{'ready':<43} {time.monotonic() - began:5.1f} s")
        return status(self.settings, [unit.name for unit in self.units])

    def _timed(self, name: str, needs: Sequence[Future[None]], act: Callable[[], str]) -> None:
        for need in needs:
            need.result()
        since = time.monotonic()
        outcome = act()
        self.report(f"{name:<11} {outcome:<31} {time.monotonic() - since:5.1f} s")

    # --- ports and addresses ----------------------------------------------------------------------------------------

    def _choose_ports(self) -> dict[str, dict[str, int]]:
        """Return each embedded part's ports. A running part keeps its own, busy as they are; the others' must be
        free."""
        kept = state.read(self.home).ports
        self._end_orphans()
        chosen: dict[str, dict[str, int]] = {}
        taken: set[int] = set()
        for unit in sorted(self._ours(), key=lambda unit: not self._runs(unit)):  # those that run first
            own = {name: kept[f"{unit.name}.{name}"] for name in unit.ports if f"{unit.name}.{name}" in kept}
            runs = self._runs(unit) and len(own) == len(unit.ports)
            chosen[unit.name] = own if runs else ports.choose(unit.ports, own, taken)
            taken |= set(chosen[unit.name].values())
        return chosen

    def _end_orphans(self) -> None:
        """End what a killed part left behind: it may still listen on its ports, which are to be used again."""
        for unit in self.units:
            if not self._runs(unit):
                record = state.record(self.home, unit.name)
                process.end(state.mark(self.home, unit.name), process.recorded(record), 0)

    def _ours(self) -> list[Unit]:
        """Return the embedded parts, this round's and those of earlier ones: all are announced together."""
        known = [unit for unit in UNITS if unit in self.units or self._runs(unit)]
        return [unit for unit in known if unit.outside(self.given) is None]

    def _runs(self, unit: Unit) -> bool:
        identity = process.recorded(state.record(self.home, unit.name))
        return identity is not None and process.alive(identity)

    def _announce(self) -> dict[str, Any]:
        """Write stack.json: from now on `load()` finds the addresses, the daemons' own `load()` too."""
        values: dict[str, Any] = {}
        for unit in self._ours():
            values |= unit.provides(self.home, self.ports[unit.name])
        elsewhere = [field for unit in UNITS if unit.outside(self.given) for field in (*unit.fields, *unit.also)]
        values |= {field: str(value) for field in elsewhere if (value := self.given.value(field)) is not None}
        flat = {f"{name}.{port}": number for name, ports in self.ports.items() for port, number in ports.items()}
        old = state.read(self.home)
        state.write(self.home, replace(old, running=True, ports=old.ports | flat, settings=values))
        return values

    # --- one part ---------------------------------------------------------------------------------------------------

    def _mend(self, unit: Unit) -> str:
        outside = unit.outside(self.given)
        if outside:
            _end(self.given, unit, self.report)  # ours, from before the user named another server
            unit.check(self.settings)
            return f"answers at {unit.address(self.settings)}" if unit.address(self.settings) else "answers"
        site = Site(home=self.home, settings=self.settings, ports=self.ports[unit.name])
        launch = unit.launch(site)
        if self._keep(unit, site, launch):
            outcome = "runs already"
        else:
            self._start(unit, site, launch)
            outcome = unit.address(self.settings) or "started"
        if unit.ready:
            unit.ready(self.settings)
        return outcome

    def _keep(self, unit: Unit, site: Site, launch: Launch) -> bool:
        """Return whether the part runs, was started as it would be started now, and answers."""
        identity = process.recorded(state.record(self.home, unit.name))
        if identity is None or not process.alive(identity) or identity.fingerprint != _fingerprint(launch):
            return False
        return self._answers(unit, site, identity, since=0.0, seconds=KEEP_SECONDS) is None

    def _start(self, unit: Unit, site: Site, launch: Launch) -> None:
        record, mark = state.record(self.home, unit.name), state.mark(self.home, unit.name)
        log = state.log(self.home, unit.name)
        process.end(mark, process.recorded(record), unit.stop_seconds)  # hung, outdated, or orphans of a killed one
        self._need_ports(unit, site.ports)
        since = time.time()
        daemon = process.Daemon(command=launch.command, environment=launch.environment, log=log, mark=mark)
        identity = process.start(daemon, record, _fingerprint(launch))
        cause = self._answers(unit, site, identity, since=since, seconds=unit.start_seconds)
        if cause is None:
            return
        if not process.alive(identity):
            process.end(mark, identity, unit.stop_seconds)
            self._need_ports(unit, site.ports)
        raise UnavailableError(f"{unit.name} did not come up: {cause}. The end of its log {log}:\n{process.tail(log)}")

    def _answers(
        self, unit: Unit, site: Site, identity: process.Identity, *, since: float, seconds: float
    ) -> str | None:
        """Return None once the part answers and it is this very daemon that does; else why not within `seconds`."""
        deadline = time.monotonic() + seconds
        mark = state.mark(self.home, unit.name)
        cause = "it has not answered"
        while process.alive(identity):
            try:
                unit.answers(self.settings, since)
                if not unit.ports or process.listens(process.members(mark, identity), site.ports[unit.ports[0]]):
                    return None
                cause = f"port {site.ports[unit.ports[0]]} is somebody else's"
            except VaesvcError as error:
                cause = str(error)
            if time.monotonic() > deadline:
                return f"no answer in {seconds:.0f} s: {cause}"
            if self.stop.wait(POLL_SECONDS):
                return "interrupted"
        return "it ended"

    def _need_ports(self, unit: Unit, chosen: Mapping[str, int]) -> None:
        busy = [port for port in chosen.values() if not ports.free(port)]
        if busy:
            raise PortTakenError(f"{unit.name}: port {busy[0]} was taken by another program")


def _fingerprint(launch: Launch) -> str:
    return hashlib.sha256("\0".join(launch.same).encode()).hexdigest()[:16]


def _raise_worst(done: Mapping[str, Future[None]]) -> None:
    """Raise the first error, once all parts are through; a taken port before others: it can be mended at once."""
    errors = [error for future in done.values() if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: not isinstance(error, PortTakenError)):
        raise error
