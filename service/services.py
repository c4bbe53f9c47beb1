"""What the handlers of the API share: settings, store, keys, storage, and bounded places for calls that take long.

Handlers that only touch SQL run in FastAPI's thread pool. Those that wait on S3 or MLflow share a small pool of
their own: a storage outage must never keep a runner's heartbeat waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request

from service import access, kinds
from service.data import names
from service.errors import NotFoundError, UnavailableError
from service.kinds.house import House
from service.oidc.signing_in import SigningIn
from service.queue.jobs import TokenInfo
from service.queue.store import Store
from service.settings import Settings
from service.signing import SigningKey
from service.tracking import login
from vae_models.data.named import known

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.models import Models
    from service.specs.job import JobSpec

R = TypeVar("R")
T = TypeVar("T")

RESOLVE_SECONDS = 20.0  # for one of them, the wait for its turn included
SLOW_THREADS = 8  # at most so many calls wait on S3 or MLflow at once
SLOW_SECONDS = 60.0  # for one of them, the wait for a thread included
LOGINS = 4  # at most so many calls wait on the provider of logins at once
LOGIN_SECONDS = 40.0  # for one of them, the wait for a thread included
STORAGE_SECONDS = 15.0  # an S3 server that does not answer is tried again for this long
_NOT_READ = f"the spec was not read within {RESOLVE_SECONDS:.0f} s: the service is busy with others; send it again"
RESOLVING = 2  # specs that are read and checked at once: it is all computing, and the calls of runners go first


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the handlers share; on `app.state.services`."""

    settings: Settings
    store: Store
    secret: bytes
    key: SigningKey
    slow: asyncio.Semaphore
    resolving: asyncio.Semaphore
    logging_in: asyncio.Semaphore
    signing_in: SigningIn | None  # of the command line; none: there is no login by a provider

    @cached_property
    def artifacts(self) -> Artifacts:
        from service.artifacts import Artifacts  # boto3: only when a call needs it

        return Artifacts(self.settings.storage(), patience_seconds=STORAGE_SECONDS)

    @cached_property
    def models(self) -> Models:
        from service.models import Models

        return Models(store=self.store, artifacts=self.artifacts, key=self.key)

    def mlflow_uri(self) -> str:
        if self.settings.mlflow_uri is None:
            raise NotFoundError(
                "this service has no MLflow server, so it has no models: set VAESVC_MLFLOW_URI (or mlflow_uri in the "
                "settings file) for the API and the dispatcher"
            )
        return str(login.for_service(self.settings, self.secret))

    async def wait_for(self, call: Callable[[], T]) -> T:
        """Run a call that waits on S3 or MLflow, outside the threads that serve heartbeats, for a bounded time."""
        late = f"S3 or MLflow did not answer within {SLOW_SECONDS:.0f} s; `vaesvc doctor` says which"
        return await _apart(call, self.slow, SLOW_SECONDS, late)

    async def log_in(self, call: Callable[[], T]) -> T:
        """Run a call that waits on the provider of logins, outside the threads that serve heartbeats, for a bounded
        time."""
        late = f"the provider of logins did not answer within {LOGIN_SECONDS:.0f} s; try again"
        return await _apart(call, self.logging_in, LOGIN_SECONDS, late)

    async def read_specs(self, call: Callable[[], T]) -> T:
        """Run a call that resolves specs, for a bounded time: few at once, so that it keeps nobody else waiting."""
        return await _apart(call, self.resolving, RESOLVE_SECONDS, _NOT_READ)

    async def read_specs_then(self, read: Callable[[], T], then: Callable[[T], R]) -> R:
        """Run a call that resolves specs, as `read_specs` does, and in its thread what follows, which has neither a
        place nor a bounded time here: another thread for it would cost as much as reading a short spec. What follows a
        call that was too late is not done."""
        loop = asyncio.get_running_loop()
        was_read: asyncio.Future[None] = loop.create_future()
        goes_on = threading.Lock()  # taken by the thread, or by who has waited too long for it

        def both() -> R:
            try:
                value = read()
            finally:
                loop.call_soon_threadsafe(was_read.set_result, None)
            if not goes_on.acquire(blocking=False):
                raise UnavailableError(_NOT_READ)
            return then(value)

        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await self.resolving.acquire()
                was_read.add_done_callback(lambda _: self.resolving.release())
                thread = asyncio.ensure_future(anyio.to_thread.run_sync(both))
                thread.add_done_callback(_looked_at)
                await asyncio.shield(was_read)
        except TimeoutError:
            if goes_on.acquire(blocking=False):
                raise UnavailableError(_NOT_READ) from None
        return await asyncio.shield(thread)

    def resolved(self, given: Mapping[str, Any], user: TokenInfo) -> JobSpec:
        """Resolve a spec: every trial of a study is checked, names of data sets become the digests that they point to,
        names of models and jobs the weights that they mean, of those that the user sees."""
        sets, all_of_them = self.store.data, access.sees_all(self.settings, user)
        with known(names.lookup(lambda: sets.names(None if all_of_them else user.name))):
            spec = kinds.settled(kinds.resolve(given), self._house(user))
        names.check(spec.model_dump(mode="json"), sets, lambda digest: all_of_them or sets.brought(digest, user.name))
        return spec

    def _house(self, user: TokenInfo) -> House:
        """Return what a user sees of the service."""
        return House(
            store=self.store,
            artifacts=self.artifacts,
            models=self.models,
            sees=lambda job_id: access.sees_all(self.settings, user) or self.store.owner(job_id) == user.name,
        )


async def _apart(call: Callable[[], T], places: asyncio.Semaphore, seconds: float, late: str) -> T:
    """Run a call in a thread of its own, when there is a place for it; UnavailableError after so many seconds.

    The place is held for as long as the thread runs, also when nobody waits for it any more: what cannot be stopped
    must not be started again and again.
    """

    def ended(thread: asyncio.Future[T]) -> None:
        places.release()
        _looked_at(thread)

    try:
        async with asyncio.timeout(seconds):
            await places.acquire()
            thread = asyncio.ensure_future(anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1)))
            thread.add_done_callback(ended)
            return await asyncio.shield(thread)
    except TimeoutError:
        raise UnavailableError(late) from None


def _looked_at(thread: asyncio.Future[Any]) -> None:
    """Look at what a thread has raised, also where nobody waits for it any more."""
    if not thread.cancelled():
        thread.exception()


async def _services(request: Request) -> Services:  # a coroutine: a plain function would be given a thread
    services: Services = request.app.state.services
    return services


App = Annotated[Services, Depends(_services)]
