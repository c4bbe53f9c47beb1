"""What may be asked of a job after it was submitted: a signal while it runs, or another spec of its kind."""

from __future__ import annotations

from typing import get_args

from pydantic import ValidationError

from service import kinds, wire
from service.errors import ConflictError, UsageError
from service.kinds.kind import Kind, loaded
from service.mistakes import listed
from service.queue import again
from service.queue.jobs import Job, Record
from service.queue.policy import Signal
from service.queue.store import Store
from service.spec_errors import choice, explain

SIGNALS: tuple[Signal, ...] = get_args(Signal)


def amend(store: Store, job_id: str, request: wire.AmendRequest, *, by: str) -> Job:
    """Signal or change the job as was asked, and return it; asking again is harmless.

    Raises UsageError for what there is not, or where the job would be another one, ConflictError where it cannot be
    asked of this job, or not now.
    """
    for signal in SIGNALS:
        if request.what == signal:
            return store.signal(job_id, signal, by=by)
    job = store.job(job_id)
    kind = kinds.named(job.kind)
    if request.what not in kind.amendments:
        raise _unknown(job, kind, request.what)
    amendment = kind.amendments[request.what]
    if amendment.over:
        again.refuse_going(job.id, job.state)
    model: type[Record] = loaded(amendment.request)
    try:
        asked = model.model_validate(request.fields)
    except ValidationError as error:
        raise UsageError(listed(explain(error, model))) from None
    before = kind.read(job.spec)
    spec = loaded(amendment.apply)(before, asked)  # which checks it: while nobody waits for us
    changed = again.Amendment(
        job=job, spec=job.spec if spec == before else spec.model_dump(mode="json"), policy=kinds.policy(spec),
        over=amendment.over, detail=asked.model_dump(mode="json"),
    )  # fmt: skip
    return store.amend(changed, by=by)


def _unknown(job: Job, kind: Kind, what: str) -> ConflictError | UsageError:
    there = [other for each in kinds.KINDS.all().values() for other in each.amendments]
    if what not in there:
        return UsageError(choice("what", what, [*there, *SIGNALS]))
    return ConflictError(f"job {job.id} is {kind.called}{kinds.policy(kind.read(job.spec)).advice(job.id)}")
