"""The API's calls of one job about its place in the line."""

from __future__ import annotations

from fastapi import APIRouter

from service import access
from service.access import JobId, User
from service.order.records import Reprioritize
from service.queue import dependencies
from service.queue.jobs import Job, TokenInfo
from service.queue.rows import unknown_job
from service.services import App, Services
from service.specs.job import JobSpec


def check(spec: JobSpec, services: Services, user: TokenInfo) -> None:
    """Raise NotFoundError for a job that the spec comes after and that is not there, or not the user's to see."""
    wanted = [job_id for job_id, _ in dependencies.names(spec.after)]
    if wanted and not access.sees_all(services.settings, user):
        seen = services.store.owned(wanted, user.name)
        for job_id in wanted:
            if job_id not in seen:
                raise unknown_job(job_id)


def add(read: APIRouter, change: APIRouter) -> None:
    """Add the calls to those of one job: `read` is checked for who may see it, `change` for who may change it."""

    @change.post("/hold", summary="Keep a waiting job out of the line")
    def hold(job_id: JobId, services: App, user: User) -> Job:
        """Keep the job out of the line until it is released; asking again is harmless. Only a job that waits is
        held."""
        services.store.order.hold(job_id, by=user.name)
        return services.store.job(job_id)

    @change.post("/release", summary="Let a held job into the line")
    def release(job_id: JobId, services: App, user: User) -> Job:
        """Let the job into the line, at the place of its age, unless something else keeps it out; asking again is
        harmless."""
        services.store.order.release(job_id, by=user.name)
        return services.store.job(job_id)

    @change.post("/reprioritize", summary="Give a job another priority")
    def reprioritize(job_id: JobId, request: Reprioritize, services: App, user: User) -> Job:
        """Give the job another priority, in the line now or when it is in it again; asking again is harmless."""
        access.may_go_first(request, user, services.store.shares)
        services.store.order.reprioritize(job_id, request.priority, by=user.name, admin=user.admin)
        return services.store.job(job_id)
