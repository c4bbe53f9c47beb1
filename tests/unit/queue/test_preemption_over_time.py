"""Preemption and elastic gangs over time: the planner and whoever makes room, on a virtual clock until all is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from service.queue import scheduling
from service.queue.elasticity import growing, shrinking
from service.queue.jobs import Capacity, Resources
from service.queue.preemption import Holding, victims
from service.queue.turns import Queued

LEAVING = 3  # ticks that a checkpoint takes
CAPACITY = Capacity(nodes=({"CPU": 4.0}, {"CPU": 4.0}, {"CPU": 2.0}))


@dataclass(kw_only=True)
class Job:
    """work: ticks of one worker that are left. leaves: when its attempt has checkpointed; None: nobody asked it."""

    job_id: str
    resources: Resources
    priority: int
    at: int
    work: int
    preemptible: bool
    nodes: tuple[int, ...] = ()
    since: int = 0
    leaves: int | None = None
    makes_room_for: str | None = None
    ended: int | None = None

    @property
    def queued(self) -> Queued:
        return Queued(job_id=self.job_id, resources=self.resources, priority=self.priority)

    @property
    def holding(self) -> Holding:
        return Holding(
            job_id=self.job_id,
            resources=self.resources.sized(len(self.nodes)),
            job=self.resources if self.resources.min_workers is not None else None,
            nodes=self.nodes,
            priority=self.priority,
            since=float(self.since),
            preemptible=self.preemptible,
            leaving=self.leaves is not None,
        )


@dataclass(kw_only=True)
class World:
    jobs: list[Job]
    now: int = 0
    asked: Counter[str] = field(default_factory=Counter)  # how often attempts gave way for a job, or to grow

    def tick(self) -> None:
        """What runs goes on; what has ended or checkpointed leaves; the planner starts, and those who make room ask."""
        running = [job for job in self.jobs if job.nodes]
        for job in running:
            job.work -= len(job.nodes)
            if job.work <= 0:
                job.nodes, job.leaves, job.ended = (), None, self.now
            elif job.leaves is not None and job.leaves <= self.now:
                job.nodes, job.leaves = (), None
        made_for = {job.makes_room_for for job in self.jobs if not job.nodes} - {None}
        left = {name for name in made_for if not any(j.nodes and j.makes_room_for == name for j in self.jobs)}
        waiting = [job for job in self.jobs if job.at <= self.now and not job.nodes and job.ended is None]
        holding = [job.holding for job in self.jobs if job.nodes]
        made = scheduling.plan(scheduling.lanes(job.queued for job in waiting), holding, CAPACITY, self.now)
        by_id = {job.job_id: job for job in self.jobs}
        for admission in made.admit:
            job = by_id[admission.job_id]
            job.nodes, job.since = admission.nodes, self.now
        self._check(made, left)
        for job in self.jobs:
            if not job.nodes and job.makes_room_for in left:
                job.makes_room_for = None
        self._make_room(made, by_id)
        self.now += 1

    def _check(self, made: scheduling.Plan, left: set[str | None]) -> None:
        held = Counter(index for job in self.jobs for index in job.nodes)
        assert all(held[index] <= node["CPU"] for index, node in enumerate(CAPACITY.nodes))
        for name in left:  # all who made room for it have left
            head = next(job for job in self.jobs if job.job_id == name)
            took = {admission.job_id for admission in made.admit} | {made.head}
            before = any(job.job_id in took and _line(job) < _line(head) for job in self.jobs)
            assert head.nodes or head.ended is not None or before, "room was made, and it did not start"

    def _make_room(self, made: scheduling.Plan, by_id: dict[str, Job]) -> None:
        holding = [job.holding for job in self.jobs if job.nodes]
        if made.head is None:
            chosen = growing(holding, CAPACITY)
            if chosen is not None and self.now % 10 == 0:
                by_id[chosen].leaves = self.now + LEAVING
                self.asked["growing"] += 1
            return
        head = by_id[made.head]
        for chosen in shrinking(head.resources, head.priority, holding, CAPACITY) or victims(
            head.resources, head.priority, holding, CAPACITY
        ):
            job = by_id[chosen]
            assert job.priority < head.priority
            assert job.preemptible
            job.leaves, job.makes_room_for = self.now + LEAVING, head.job_id
            self.asked[head.job_id] += 1


def _line(job: Job) -> tuple[int, str]:
    return -job.priority, job.job_id


def world(random: Random) -> World:
    jobs = []
    for index, at in enumerate(sorted(random.randint(0, 300) for _ in range(40))):
        workers = random.choice([1, 1, 2, 3, 4, 8])
        fewest = random.choice([None, None, random.randint(1, workers)])
        gang = Resources(workers=workers, min_workers=fewest)
        jobs.append(
            Job(
                job_id=f"j{index:03}",
                resources=gang,
                priority=random.choice([0, 0, 0, 3, 9]),
                at=at,
                work=workers * random.randint(5, 40),
                preemptible=random.random() < 0.9,
            )
        )
    return World(jobs=jobs)


@pytest.mark.parametrize("seed", range(12))
def test_room_that_is_made_is_used_and_everything_ends(seed: int) -> None:
    made = world(Random(seed))
    while any(job.ended is None for job in made.jobs):
        made.tick()
        assert made.now < 5000, "something never ends"
    highest = [job for job in made.jobs if job.priority == 9]
    assert all(made.asked[job.job_id] <= 10 for job in highest)  # asked once, of no more workers than there are
    assert sum(made.asked.values()) > 0
