"""Calls of the API that runs had before every kind had `amend`."""

from __future__ import annotations

from fastapi import APIRouter

from service.access import JobId, User
from service.amendments import amend
from service.kinds.train.policy import Lengthen
from service.queue.jobs import Job
from service.services import App
from service.wire import AmendRequest


def add(read: APIRouter, change: APIRouter) -> None:
    """Add the kind's calls to those of one job that change it."""

    @change.post("/lengthen", summary="More epochs or steps: `amend` by its earlier name", deprecated=True)
    def lengthen(job_id: JobId, request: Lengthen, services: App, user: User) -> Job:
        """Give the run more epochs or steps. The next attempt goes on from the last committed checkpoint, as if the run
        had been longer from the start."""
        asked = AmendRequest(what="lengthen", **request.model_dump())
        return amend(services.store, job_id, asked, by=user.name)
