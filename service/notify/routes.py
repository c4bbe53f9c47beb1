"""The API's calls for what users want to be told, and where. Everybody's are their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from service import access, wire
from service.access import JobId, User
from service.errors import UsageError
from service.notify import addresses, messages
from service.queue.jobs import TokenInfo
from service.queue.notice import Channel, Subscription, Target

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
router = APIRouter(prefix="/v1/notifications", tags=["notifications"], responses={422: _error, "default": _error})
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="of the subscription")]


def _services(request: Request) -> Any:
    return request.app.state.services


def targets(settings: Any, asked: Sequence[wire.NoticeRequest]) -> list[Target]:
    """Return where to tell what. Raises UsageError for addresses that cannot be, and for mail where none is sent."""
    for wish in asked:
        addresses.check(wish.channel, wish.address, settings.mail_domains)
        if wish.channel is Channel.MAIL and (settings.mail_url is None or settings.mail_from is None):
            raise UsageError("this service sends no mail: whoever runs it sets mail_url and mail_from")
    return [Target(channel=wish.channel, address=wish.address, notices=wish.notices) for wish in asked]


def _with_secret(services: Any, made: Subscription) -> wire.SubscriptionReply:
    secret = messages.shown(services.secret, made.id) if made.channel is Channel.WEBHOOK else None
    return wire.SubscriptionReply(subscription=made, secret=secret)


@router.get("", summary="What one is told", dependencies=[access.READS])
def listed(request: Request, user: User) -> Sequence[Subscription]:
    """Return the caller's subscriptions, with what is still to be delivered and why."""
    all_of_them: list[Subscription] = _services(request).store.notices.all(user.name)
    return all_of_them


@router.post("", summary="Be told of jobs", dependencies=[access.CHANGES])
def add(
    asked: wire.NoticeRequest,
    request: Request,
    user: User,
    job: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="of this alone")] = None,
) -> wire.SubscriptionReply:
    """Let the caller be told of a job, or of all of their own; the same again is the same. A webhook's answer has the
    secret that signs it."""
    services = _services(request)
    (target,) = targets(services.settings, [asked])
    if job is not None:
        _may_see(job, request, user)
    made: Subscription = services.store.notices.subscribe(user.name, target, job_id=job)
    return _with_secret(services, made)


def _may_see(job: JobId, request: Request, user: TokenInfo) -> None:
    access.reader(job, request, user)


@router.delete("/{subscription}", summary="Be told no more", dependencies=[access.CHANGES])
def remove(subscription: Id, request: Request, user: User) -> wire.SubscriptionReply:
    """Forget it, with what was still to be delivered."""
    notices = _services(request).store.notices
    gone = notices.one(subscription, user.name)
    notices.remove(subscription, user.name)
    return wire.SubscriptionReply(subscription=gone)


@router.post("/{subscription}/try", summary="Send a trial message", dependencies=[access.CHANGES])
def try_out(subscription: Id, request: Request, user: User) -> wire.Trial:
    """Let a trial message go out. `GET /v1/notifications` tells whether it has not."""
    return wire.Trial(id=_services(request).store.notices.try_out(subscription, user.name))
