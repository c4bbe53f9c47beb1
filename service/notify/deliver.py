"""Delivers what is in the outbox, beside the dispatcher's ticks: each message in bounded time, several at once.

Whoever is killed in the middle leaves a claim that ends: then the message is delivered again, with the same id.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
import time
from dataclasses import dataclass
from email.message import EmailMessage
from functools import cached_property
from urllib.parse import unquote, urlsplit

import httpx

from service import __version__
from service.errors import UsageError, VaesvcError
from service.notify import addresses, messages
from service.queue.notice import Channel, Message
from service.queue.store import Store
from service.retry import Patience
from service.settings import Settings

log = logging.getLogger("vaesvc.notices")

AT_ONCE = 8
SECONDS = 10.0  # for one delivery, the look-up of its name included
LEASE_SECONDS = 60.0  # far more than a turn takes
TURN_SECONDS = 1.0
LOOK_SECONDS = 30.0  # between two looks for jobs that wait for long
_GONE = 410  # a receiver that wants no more of it


class _RefusedError(Exception):
    """The receiver has answered, and has not taken it. final: it will not take it later either."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """Where mail goes out. scheme: smtps (TLS from the start), smtp+starttls, or smtp (plain)."""

    scheme: str
    host: str
    port: int
    user: str | None

    @classmethod
    def of(cls, url: str) -> MailServer:
        """Return the server that the setting `mail_url` names. Raises UsageError."""
        ports = {"smtps": 465, "smtp+starttls": 587, "smtp": 25}
        parts = urlsplit(url)
        if parts.scheme not in ports or not parts.hostname or parts.password is not None:
            raise UsageError(
                "mail_url: write smtp+starttls://USER@HOST:587, smtps://USER@HOST:465 or smtp://HOST:25; the password "
                "is in mail_password_file"
            )
        user = unquote(parts.username) if parts.username else None
        return cls(scheme=parts.scheme, host=parts.hostname, port=parts.port or ports[parts.scheme], user=user)


class Deliverer:
    def __init__(self, store: Store, settings: Settings, secret: bytes) -> None:
        self._store = store
        self._settings = settings
        self._secret = secret
        self._inside = addresses.networks(settings.notify_networks)
        self._mail = None if settings.mail_url is None else MailServer.of(settings.mail_url)
        self._patience = Patience("the database (notices)", log)
        self._next_look = 0.0

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        """Return the context of this machine's trusted certificates. Read once: it takes 20 to 30 ms."""
        return httpx.create_ssl_context()

    def run(self) -> None:
        """Deliver until the process ends."""
        while True:
            try:
                self.turn()
            except Exception:
                log.exception("delivering goes on after an error of its own")
            time.sleep(TURN_SECONDS)

    def turn(self) -> None:
        """Deliver what is due, some at once; look now and then for jobs that wait for long."""
        if not self._patience.due:
            return
        with self._patience.attempt():
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + LOOK_SECONDS
                self._store.notices.look(self._settings.notify_wait_seconds)
            while due := self._store.notices.claim(limit=AT_ONCE, lease_seconds=LEASE_SECONDS):
                asyncio.run(self._deliver_all(due))

    async def _deliver_all(self, due: list[Message]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for message in due:
                tasks.create_task(self._deliver(message))

    async def _deliver(self, message: Message) -> None:
        """Deliver a message and note how that went. Neither the log nor the note holds a secret: of an address there is
        its host."""
        final, why = False, None
        try:
            async with asyncio.timeout(SECONDS):
                await (self._send_mail(message) if message.channel is Channel.MAIL else self._post(message))
        except TimeoutError:
            why = f"not taken within {SECONDS:.0f} s"
        except UsageError as error:
            why = str(error)
        except _RefusedError as error:
            why, final = str(error), error.final
        except httpx.HTTPError as error:
            why = type(error).__name__
        except OSError as error:  # names that are not known, connections that are refused
            why = error.strerror or type(error).__name__
        await asyncio.to_thread(self._note, message, why, final)

    def _note(self, message: Message, why: str | None, final: bool) -> None:
        if why is None:
            self._store.notices.delivered(message.id)
            return
        log.warning("%s of %s not delivered (try %d): %s", message.channel, message.id, message.tries, why)
        self._store.notices.failed(message, why, final=final)

    async def _post(self, message: Message) -> None:
        place = await addresses.look_up(message.address, self._inside)
        if message.channel is Channel.SLACK:
            content, headers = messages.slack(message), {"content-type": "application/json"}
        else:
            content = messages.body(message)
            headers = messages.signed(message, content, self._secret, int(time.time()))
        headers |= {"host": place.host_header, "user-agent": f"vaesvc/{__version__}"}
        # by its number, without proxies and redirects: what was judged is what is called
        certificates = self._certificates if place.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        more = {"sni_hostname": place.host}
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SECONDS, verify=certificates) as client,
            client.stream("POST", place.url, content=content, headers=headers, extensions=more) as answer,
        ):
            if not answer.is_success:  # its body is not read
                raise _RefusedError(f"{place.host} answered {answer.status_code}", final=answer.status_code == _GONE)

    async def _send_mail(self, message: Message) -> None:
        if self._mail is None or self._settings.mail_from is None:
            raise UsageError("this service sends no mail: mail_url and mail_from are not set")
        server, sender = self._mail, self._settings.mail_from
        password = self._settings.mail_password()
        await asyncio.to_thread(_send, server, password, messages.mail(message, sender))


def _send(server: MailServer, password: str | None, mail: EmailMessage) -> None:
    """Hand a mail to the server. Raises _RefusedError, without what the server said of the login, and OSError."""
    try:
        with _connected(server) as connection:
            if server.scheme == "smtp+starttls":
                connection.starttls(context=ssl.create_default_context())
            if server.user is not None and password is not None:
                connection.login(server.user, password)
            connection.send_message(mail)
    except smtplib.SMTPAuthenticationError as error:
        raise _RefusedError(f"{server.host} does not take the login ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        raise _RefusedError(f"{server.host} does not take the recipient ({codes})", final=min(codes) >= 500) from None
    except smtplib.SMTPException as error:
        raise _RefusedError(f"{server.host}: {type(error).__name__}") from None


def _connected(server: MailServer) -> smtplib.SMTP:
    if server.scheme == "smtps":
        trusted = ssl.create_default_context()  # smtplib's own verifies nothing
        return smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=trusted)
    return smtplib.SMTP(server.host, server.port, timeout=SECONDS)


def start(store: Store, settings: Settings, secret: bytes) -> None:
    """Deliver in a thread of this process, for as long as it lives."""
    import threading

    try:
        deliverer = Deliverer(store, settings, secret)
    except VaesvcError as error:
        log.error("no notices are delivered: %s", error)
        return
    threading.Thread(target=deliverer.run, name="notices", daemon=True).start()
