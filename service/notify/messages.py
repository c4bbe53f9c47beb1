"""What is sent: bodies and signatures. Pure.

A webhook is signed as standardwebhooks.com says: the header `webhook-signature` is "v1," and the base64 of
HMAC-SHA256(secret, id "." timestamp "." body), `webhook-id` the same for every delivery of a message, and
`webhook-timestamp` in seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from service.queue.notice import Message

_DOMAIN = b"vaesvc webhook v1"
SECRET_PREFIX = "whsec_"  # nosec B105  # what the standard begins a secret with
_SAID = {
    "job.started": "has started",
    "job.succeeded": "has succeeded",
    "job.failed": "has failed",
    "job.cancelled": "is cancelled",
    "job.retrying": "lost an attempt and is in the line again",
    "job.preempted": "has given up its room and is in the line again",
    "job.waiting": "has been waiting in the line for long",
}


def key(secret: bytes, subscription: str) -> bytes:
    """Return the 32 bytes that sign a subscription's webhooks: nothing of them is stored."""
    return hmac.new(secret, _DOMAIN + b"\0" + subscription.encode(), hashlib.sha256).digest()


def shown(secret: bytes, subscription: str) -> str:
    """Return the subscription's secret as the standard writes it."""
    return SECRET_PREFIX + base64.b64encode(key(secret, subscription)).decode()


def body(message: Message) -> bytes:
    """Return a webhook's body: the same bytes at every delivery."""
    return json.dumps(message.body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def signed(message: Message, content: bytes, secret: bytes, at: int) -> dict[str, str]:
    """Return a webhook's headers. at: seconds since 1970."""
    what = f"{message.id}.{at}.".encode() + content
    signature = base64.b64encode(hmac.new(key(secret, message.subscription), what, hashlib.sha256).digest()).decode()
    return {
        "content-type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{signature}",
    }


def sentence(message: Message) -> str:
    """Return what is told, for people, in a line."""
    job: dict[str, Any] = message.body["job"]
    if message.body["type"] not in _SAID:
        return "This is a trial: messages about your jobs will come here."
    text = f"{job['name']} ({job['id']}, {job['owner']}) {_SAID[message.body['type']]}"
    return f"{text}: {job['reason']}" if job.get("reason") else text


def slack(message: Message) -> bytes:
    """Return the body of a message to Slack: control characters of its markup are escaped, nobody is called out."""
    text = sentence(message)[:3000].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return json.dumps({"text": text}).encode()


def mail(message: Message, sender: str) -> EmailMessage:
    """Return a mail. Its Message-ID is the message's id: who gets it twice sees it once."""
    job: dict[str, Any] = message.body["job"]
    mail = EmailMessage()
    line = " ".join(sentence(message).split())  # a header is one line
    mail["Subject"] = line if len(line) <= 150 else f"{line[:147]}..."
    mail["From"] = sender
    mail["To"] = message.address
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.created_at, UTC))
    mail["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    lines = [sentence(message), ""]
    if job.get("id"):
        lines += [f"state: {job['state']}", f"attempt: {job['attempt']}", f"failures: {job['failures']} of "
                  f"{job['max_attempts']} that are allowed", "", f"vaesvc show {job['id']}"]  # fmt: skip
    mail.set_content("\n".join(lines) + "\n")
    return mail
