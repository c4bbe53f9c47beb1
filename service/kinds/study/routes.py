"""Calls of the API that studies had before every kind had `amend` and `view`."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter

from service import areas
from service.access import JobId, User
from service.amendments import amend
from service.kinds.study.messages import StudyDetail, only_a_study
from service.kinds.study.policy import Extend
from service.kinds.study.view import stages
from service.queue.jobs import Job
from service.services import App
from service.wire import AmendRequest


def add(read: APIRouter, change: APIRouter) -> None:
    """Add the kind's calls to those of one job that read it, and to those that change it."""

    @read.get("/study", summary="A study's trials, best first: `view` by its earlier name", deprecated=True)
    async def study(job_id: JobId, services: App) -> StudyDetail:
        """Return the study's trials as far as they have come: what has ended from storage, the rest from the running
        attempt's report."""
        job = await anyio.to_thread.run_sync(services.store.job, job_id)
        only_a_study(job)

        def detail() -> StudyDetail:
            pictures = areas.picture_addresses(services.artifacts, job)
            return StudyDetail(job=job, stages=stages(job, services.artifacts), pictures=pictures)

        return await services.wait_for(detail)

    @change.post("/study/stop", summary="End a study early: `amend` by its earlier name", deprecated=True)
    def stop_study(job_id: JobId, services: App, user: User) -> Job:
        """Stop the running trials and choose the winner among those that have ended. Asking again is harmless."""
        only_a_study(services.store.job(job_id))
        return amend(services.store, job_id, AmendRequest(what="finish"), by=user.name)

    @change.post("/study/extend", summary="More trials for a study: `amend` by its earlier name", deprecated=True)
    def extend_study(job_id: JobId, request: Extend, services: App, user: User) -> Job:
        """Give the study more assignments. What has been trained is not trained again."""
        only_a_study(services.store.job(job_id))
        asked = AmendRequest(what="extend", **request.model_dump())
        return amend(services.store, job_id, asked, by=user.name)
