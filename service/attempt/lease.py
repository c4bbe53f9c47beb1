"""The attempt's lease, seen from its runner: renewed in the background, given up before it ends.

All times are of this machine's monotonic clock, counted from the moment *before* a renewal was sent, so the lease ends
here no later than it ends in the database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.client import AttemptClient
from service.errors import FencedError, VaesvcError

_RENEWALS_PER_LEASE = 4
_SLOWEST_SECONDS = 3.0  # a cancel is heard this soon, whatever the lease
_AGAIN_SECONDS = 0.5  # after a renewal that failed
_FIRST_TRIES = 10
_FROZEN_SECONDS = 5.0  # between two looks at the lease, which are a tenth of a second apart: nobody was looking
_ASKING_SECONDS = 5.0  # after that, for the renewals in the background to get an answer
_MARGIN_SECONDS = 3.0  # to end every process of the attempt in


class Lease:
    def __init__(
        self, client: AttemptClient, runner_id: str, lease_seconds: float, note: Callable[[str], None]
    ) -> None:
        """Keep the client, without patience of its own. note: gets a line when the API goes away and when it is
        back."""
        self._client = client
        self._runner_id = runner_id
        self._seconds = lease_seconds
        self._note = note
        self._renewed_at = time.monotonic()
        self._checked_at = self._renewed_at
        self._thawed_at: float | None = None
        self._cancelled_at: float | None = None
        self._stop: tuple[float, str, bool, float | None] | None = None
        self._away = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.lost: str | None = None  # why

    def start(self) -> None:
        """Renew once, then in the background: the claim's answer does not say when the claim was made."""
        for _ in range(_FIRST_TRIES):
            pause = self._once()
            if self.lost is not None or not self._away:
                break
            time.sleep(pause)
        else:
            self.lost = "the lease could not be renewed after the claim"
        self._checked_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._end.set()

    def check(self) -> str | None:
        """Return why the lease is lost; None while it is held. Never blocks. Asked several times a second.

        A process that was frozen (SIGSTOP, a paused virtual machine) past the lease's end asks before it gives up:
        whoever froze it may have frozen the service too. If not, the answer is that another attempt has taken over.
        """
        now = time.monotonic()
        if now - self._checked_at > _FROZEN_SECONDS:
            self._thawed_at = now
        self._checked_at = now
        asking = self._thawed_at is not None and now < self._thawed_at + _ASKING_SECONDS
        if self.lost is None and now >= self._deadline() and not asking:
            self.lost = f"the lease could not be renewed for {now - self._renewed_at:.0f} s"
        return self.lost

    def cancelled_for(self) -> float | None:
        """Return the seconds since the service asked for a stop; None if it did not."""
        return None if self._cancelled_at is None else time.monotonic() - self._cancelled_at

    def stop_asked(self, grace: float) -> tuple[bool, str, bool] | None:
        """Return whether the time is over in which this attempt shall end, why it shall, and whether it hangs; None
        where it need not. grace: seconds, where the service named none."""
        if self._stop is None:
            return None
        at, why, hangs, named = self._stop
        return time.monotonic() - at >= (grace if named is None else named), why, hangs

    def _deadline(self) -> float:
        margin = min(_MARGIN_SECONDS, self._seconds / 3)
        return self._renewed_at + self._seconds - margin

    def _renew(self) -> None:
        pause = 0.0
        while self.lost is None and not self._end.wait(pause):
            pause = self._once()

    def _once(self) -> float:
        """Renew once; return the seconds until the next time."""
        interval = min(self._seconds / _RENEWALS_PER_LEASE, _SLOWEST_SECONDS)
        sent = time.monotonic()
        try:
            reply = self._client.heartbeat(self._runner_id, timeout_seconds=max(1.0, interval))
        except FencedError as error:
            self.lost = str(error)
            return interval
        except VaesvcError as error:
            if not self._away:
                self._note(f"the lease is not renewed: {error}")
            self._away = True
            return min(_AGAIN_SECONDS, interval)
        if self._away:
            self._note("the lease is renewed again")
        self._away = False
        self._renewed_at = sent
        self._seconds = reply.lease_seconds
        if reply.cancel and self._cancelled_at is None:
            self._note("cancel was asked for")
            self._cancelled_at = time.monotonic()
        if reply.stop is not None and self._stop is None:
            self._note(f"this attempt shall end: {reply.stop}")
            self._stop = (time.monotonic(), reply.stop, reply.hangs, reply.grace)
        return interval
