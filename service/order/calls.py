"""A user's calls about the line: the part of `service.client.Client` that is about them."""

from __future__ import annotations

from urllib.parse import quote

import pydantic

from service.data.calls import Http
from service.order.records import Reprioritize
from service.queue.jobs import Job


class OrderCalls:
    """A user's calls about the place of jobs in the line. Every one may be repeated.

    All raise NotFoundError, ForbiddenError for another's job, ConflictError for one that is not in a state for it.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    def hold(self, job_id: str) -> Job:
        """Keep a waiting job out of the line until it is released."""
        return self._change(job_id, "hold")

    def release(self, job_id: str) -> Job:
        """Let a held job into the line."""
        return self._change(job_id, "release")

    def reprioritize(self, job_id: str, priority: int) -> Job:
        """Give the job another priority."""
        return self._change(job_id, "reprioritize", Reprioritize(priority=priority))

    def _change(self, job_id: str, call: str, body: pydantic.BaseModel | None = None) -> Job:
        path = f"/v1/jobs/{quote(job_id, safe='')}/{call}"
        return self._http.call("POST", path, Job.model_validate_json, body=body)
