"""The process that deals connections out: what it does with processes that fail, on real processes and sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.servers import wait_for

DEALER = """
import socket, sys
from service import spread
spread.SILENT_SECONDS, spread.DRAIN_SECONDS, spread.PAUSE_SECONDS = 1.0, -4.5, 0.05
spread.serve([sys.executable, "-c", sys.argv[2]], int(sys.argv[3]), socket.socket(fileno=int(sys.argv[1])))
"""
# to the dealer these are what processes of the API are: they say that they live, and answer what they are handed
ANSWERS = """
import os, socket, sys, threading, time
pair = socket.socket(fileno=int(sys.argv[-1]))
def live():
    while True:
        pair.send(b".")
        time.sleep(0.1)
threading.Thread(target=live, daemon=True).start()
while True:
    came, given, _, _ = socket.recv_fds(pair, 1, 1)
    if not came: break
    with socket.socket(fileno=given[0]) as caller: caller.sendall(str(os.getpid()).encode())
"""
FAILS = "raise SystemExit('no database here')"


@dataclass(frozen=True, kw_only=True)
class Dealer:
    process: subprocess.Popen[str]
    port: int

    def pids(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def answered_by(self) -> int:
        """Connect; return the pid of the process that answers, 0 where none does."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as caller:
            return int(caller.recv(20) or 0)


@contextmanager
def dealing(code: str, count: int) -> Iterator[Dealer]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-c", DEALER, str(listening.fileno()), code, str(count)]
        process = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True)
        port = listening.getsockname()[1]
    try:
        yield Dealer(process=process, port=port)
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_connections_are_dealt_out_in_turn() -> None:
    with dealing(ANSWERS, 3) as dealer:
        wait_for(lambda: len({dealer.answered_by() for _ in range(3)}) == 3, 60, "three processes that answer")
        assert sorted(dealer.answered_by() for _ in range(12)) == sorted(dealer.pids() * 4)
        children = [psutil.Process(pid) for pid in dealer.pids()]
        dealer.process.terminate()
        assert dealer.process.wait(20) == 0
        assert not any(child.is_running() for child in children)


def test_a_process_that_ends_or_says_nothing_is_replaced_and_gets_no_more() -> None:
    with dealing(ANSWERS, 2) as dealer:
        wait_for(lambda: len({dealer.answered_by() for _ in range(2)}) == 2, 60, "two processes that answer")
        for number in (signal.SIGKILL, signal.SIGSTOP):
            lost, kept = dealer.pids()
            os.kill(lost, number)
            wait_for(lambda lost=lost: lost not in dealer.pids(), 60, "the end of what does not answer")
            assert {dealer.answered_by() for _ in range(2)} <= {kept, *dealer.pids()}
            wait_for(lambda: len({dealer.answered_by() for _ in range(2)} - {0}) == 2, 60, "another one in its place")


def test_processes_end_with_the_one_that_deals_however_it_ends() -> None:
    with dealing(ANSWERS, 2) as dealer:
        wait_for(lambda: dealer.answered_by() > 0, 60, "a process that answers")
        children = [psutil.Process(pid) for pid in dealer.pids()]
        dealer.process.kill()
        wait_for(lambda: not any(child.is_running() for child in children), 60, "their end")


def test_where_no_process_can_begin_the_error_says_so() -> None:
    with dealing(FAILS, 2) as dealer:
        _, said = dealer.process.communicate(timeout=60)
        assert dealer.process.returncode != 0
        assert "no database here" in said
        assert "no process of the API can begin" in said
