"""The API in several processes: one listens and deals connections out, in turn; each of the others answers the calls of
its own.

One process computes with one core. Processes that took connections from one socket by themselves would be woken
together, and the quickest would have most of them. Those here share nothing but the database; limits of connections,
calls and threads are of each.

Between the one and each of the others there is a pair of sockets: connections go one way, and the other way a byte a
second, which says that it lives. A process that ends, or is silent for SILENT_SECONDS, is replaced. When the one ends,
however it ends, the pairs are closed: the others answer what they have been asked, and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
from collections.abc import Sequence

import uvicorn

from service.errors import UnavailableError
from service.serving import DRAIN_SECONDS

log = logging.getLogger("vaesvc.api")

BEGIN_SECONDS = 120.0  # from a process's start to its first byte: the machine may be busy with others'
SILENT_SECONDS = 60.0
PAUSE_SECONDS = 2.0  # before a process that has ended is replaced
_BYTE = b"."
_AT_ONCE = 64  # connections that are taken in one go, where the system gives several


def serve(command: Sequence[str], count: int, listening: socket.socket) -> None:
    """Serve in so many processes until this one is told to stop (SIGTERM, SIGINT).

    command: begins a process; the number of its end of the pair, which it inherits, is added as the last argument.
    Raises UnavailableError when a process cannot begin and no other serves.
    """
    asyncio.run(_Dealer(command, listening).run(count))


class _Dealer:
    """The process that listens."""

    def __init__(self, command: Sequence[str], listening: socket.socket) -> None:
        self._command = command
        self._listening = listening
        self._serving: list[_Process] = []  # the next one to be dealt to first
        self._some = asyncio.Event()  # serve

    async def run(self, count: int) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._listening.setblocking(False)
        told = asyncio.create_task(stop.wait())
        tasks = [told, asyncio.create_task(self._deal()), *(asyncio.create_task(self._keep()) for _ in range(count))]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if told not in ended:  # told to stop, others may have ended for the same reason
                for task in ended:
                    task.result()
        finally:
            self._listening.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        """Keep one process: begin it, and another one when it has ended."""
        while True:
            process = await _Process.begin(self._command)
            try:
                if not await process.serves():
                    if not self._serving:
                        raise UnavailableError("no process of the API can begin; the log above says why")
                    log.error("process %d of the API could not begin; the others serve", process.pid)
                else:
                    self._serving.append(process)
                    self._some.set()
                    log.error("process %d of the API %s and is replaced", process.pid, await process.end())
            finally:
                self._leave_out(process)
                await process.stop()
            await asyncio.sleep(PAUSE_SECONDS)

    def _leave_out(self, process: _Process) -> None:
        if process in self._serving:
            self._serving.remove(process)
        if not self._serving:
            self._some.clear()

    async def _deal(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()  # until then callers wait in the listening socket's line
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:  # of that caller, or too many open files: the next one may be taken
                log.warning("a connection was not taken: %s", error)
                await asyncio.sleep(0.01)
                continue
            with connection:
                self._hand_out(connection)

    def _hand_out(self, connection: socket.socket) -> None:
        """Give the connection to whose turn it is, or to the next one that takes it."""
        for process in tuple(self._serving):
            self._serving.remove(process)
            self._serving.append(process)
            if process.take(connection):
                return


class _Process:
    """A process that answers calls, seen from the one that listens."""

    def __init__(self, process: asyncio.subprocess.Process, pair: socket.socket) -> None:
        self._process = process
        self._pair = pair
        self.pid = process.pid

    @classmethod
    async def begin(cls, command: Sequence[str]) -> _Process:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command, str(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    async def serves(self) -> bool:
        """Return, when it serves, True; False when it has ended before, or does not serve in time."""
        try:
            return await self._says(BEGIN_SECONDS)
        except TimeoutError:
            return False

    async def end(self) -> str:
        """Wait until it has ended or says nothing; return which."""
        try:
            while await self._says(SILENT_SECONDS):
                pass
        except TimeoutError:
            return f"has said nothing for {SILENT_SECONDS:.0f} s"
        return "has ended"

    async def _says(self, seconds: float) -> bool:
        async with asyncio.timeout(seconds):
            try:
                return bool(await asyncio.get_running_loop().sock_recv(self._pair, 4096))
            except ConnectionError:
                return False

    def take(self, connection: socket.socket) -> bool:
        """Give it the connection. Return whether it was taken: not by one that has ended or lets too many wait."""
        try:
            socket.send_fds(self._pair, [_BYTE], [connection.fileno()])
        except OSError:
            return False
        return True

    async def stop(self) -> None:
        """Let it answer what it was asked, and end; killed if it does not."""
        self._pair.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS + 5):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Handed(uvicorn.Server):
    """Serves the connections that come over a pair of sockets, until that is closed."""

    def __init__(self, config: uvicorn.Config, pair: socket.socket) -> None:
        super().__init__(config)
        self._pair = pair
        self._taking: set[asyncio.Task[None]] = set()
        pair.setblocking(False)
        config.callback_notify, config.timeout_notify = self._say, 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        asyncio.get_running_loop().add_reader(self._pair, self._take)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._pair)
        self._pair.close()
        await super().shutdown(sockets=[])

    async def _say(self) -> None:
        """Say that it serves."""
        with contextlib.suppress(OSError):  # nobody hears it: `_take` sees whether for good
            self._pair.send(_BYTE)

    def _take(self) -> None:
        try:
            came, descriptors, _, _ = socket.recv_fds(self._pair, _AT_ONCE, _AT_ONCE)
        except BlockingIOError:
            return
        except ConnectionError:
            came, descriptors = b"", []
        for descriptor in descriptors:
            connecting = asyncio.create_task(self._answer(socket.socket(fileno=descriptor)))
            self._taking.add(connecting)
            connecting.add_done_callback(self._taking.discard)
        if not came:
            asyncio.get_running_loop().remove_reader(self._pair)
            self.should_exit = True

    async def _answer(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        config = self.config
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: config.http_protocol_class(  # type: ignore[call-arg]
                    config=config, server_state=self.server_state, app_state=self.lifespan.state
                ),
                connection,
            )
        except OSError as error:  # the caller is gone already
            connection.close()
            log.info("a connection was not taken: %s", error)
