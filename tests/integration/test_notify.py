"""Notices on real sockets: delivered at least once, whoever is killed and whoever is away."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service import auth, wire
from service.client import Client
from service.errors import UsageError
from service.kinds.train.spec import resolve
from service.notify import messages
from service.notify.deliver import Deliverer
from service.queue.notice import Channel, Notice, Subscription
from service.queue.store import Store
from service.settings import Settings
from tests.api_server import running_api
from tests.command import start
from tests.contract.queue_checks import sql
from tests.integration.test_dispatcher import Dispatching
from tests.receivers import Received, mailbox, receiver
from tests.servers import wait_for

RECIPE = "digits/beta-vae-mlp"
INSIDE = "127.0.0.0/8"


def webhook(address: str, *wanted: Notice) -> wire.NoticeRequest:
    return wire.NoticeRequest(channel=Channel.WEBHOOK, address=address, notices=wanted or (Notice.CANCELLED,))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, notify_networks=INSIDE)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store(settings.database_url)
    store.migrate()
    yield store
    store.close()


def deliver(store: Store, settings: Settings) -> None:
    """One turn, in this process."""
    Deliverer(store, settings, auth.read_secret(settings.secret_file)).turn()


def cancelled(store: Store, *where: wire.NoticeRequest, name: str = "ann") -> str:
    from service.notify.routes import targets

    made = Settings(mail_url="smtp://x", mail_from="x@example.org")
    job = store.submit(resolve(RECIPE), owner=name, notify=targets(made, where))
    store.cancel(job.id, by=name)
    return job.id


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Serving:
    """The API as a process of its own."""

    def __init__(self, home: Path) -> None:
        environment = os.environ | {"VAESVC_HOME": str(home), "VAESVC_NOTIFY_NETWORKS": INSIDE}
        self.process = start(environment, "serve", "--port", "0", stderr=None)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()


def test_nothing_is_lost_by_kill_9_of_api_and_dispatcher_and_a_receiver_that_is_away(
    tmp_path: Path, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAESVC_NOTIFY_NETWORKS", INSIDE)
    token, here = auth.new_token(), port()
    store.add_token("ann", token)
    serving, dispatching = Serving(tmp_path), Dispatching(tmp_path, "http://127.0.0.1:9")
    processes = [serving.process, dispatching.process]
    try:
        with Client(serving.url, token) as ann:
            job = ann.submit(resolve(RECIPE), notify=[webhook(f"http://127.0.0.1:{here}/hook")])
            ann.cancel(job.id)
        serving.process.kill()
        wait_for(lambda: _tries(settings) >= 1, 60, "the receiver that is away is not tried")
        dispatching.process.kill()
        for process in processes:
            process.wait(20)
        with receiver(here) as hook:
            hook.hold = held = threading.Event()  # it takes the message and does not answer
            sql(settings.database_url, "UPDATE vaesvc_outbox SET next_at = 0")
            processes.append((second := Dispatching(tmp_path, "http://127.0.0.1:9")).process)
            wait_for(lambda: len(hook.received) == 1, 60, "the message does not come")
            second.process.kill()
            second.process.wait(20)
            hook.hold = None
            held.set()
            sql(settings.database_url, "UPDATE vaesvc_outbox SET next_at = 0")  # the dead one's claim is over
            processes.append(Dispatching(tmp_path, "http://127.0.0.1:9").process)
            wait_for(lambda: store.notices.pending() == 0, 60, "the message does not come again")
            first, again = hook.received
        assert first.headers["webhook-id"] == again.headers["webhook-id"] == json.loads(again.body)["id"]
        assert first.body == again.body
        assert json.loads(again.body)["job"]["id"] == job.id
    finally:
        for process in processes:
            process.kill()
            process.wait(20)


def _tries(settings: Settings) -> int:
    return sum(tries for (tries,) in sql(settings.database_url, "SELECT tries FROM vaesvc_outbox WHERE error <> ''"))


def test_every_channel_gets_its_message_and_openssl_verifies_the_webhooks(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("right\n")
    with receiver() as hook, mailbox() as box:
        made = settings.model_copy(
            update={
                "mail_url": f"smtp://vaesvc@127.0.0.1:{box.port}", "mail_from": "vaesvc@example.org",
                "mail_password_file": password,
            }
        )  # fmt: skip
        slack = wire.NoticeRequest(channel=Channel.SLACK, address=f"{hook.url}/slack", notices=(Notice.CANCELLED,))
        mail = wire.NoticeRequest(channel=Channel.MAIL, address="ann@example.org", notices=(Notice.CANCELLED,))
        job = cancelled(store, webhook(hook.url), slack, mail)
        deliver(store, made)
        assert store.notices.pending() == 0
        signed, text = sorted(hook.received, key=lambda one: one.path)
    assert "webhook-signature" not in text.headers
    assert json.loads(text.body)["text"] == f"digits/beta-vae-mlp ({job}, ann) is cancelled"
    ((subscription,),) = sql(settings.database_url, "SELECT id FROM vaesvc_subscriptions WHERE channel = 'webhook'")
    assert signed.headers["webhook-signature"] == _by_openssl(signed, messages.shown(_secret(settings), subscription))
    ((recipients, raw),) = box.mails
    sent = email.message_from_bytes(raw, policy=email.policy.default)
    assert (recipients, box.logins) == (["ann@example.org"], [("vaesvc", "right")])
    assert (sent["To"], sent["Subject"]) == ("ann@example.org", f"digits/beta-vae-mlp ({job}, ann) is cancelled")
    assert f"vaesvc show {job}" in sent.get_content()


def _secret(settings: Settings) -> bytes:
    return auth.read_secret(settings.secret_file)


def _by_openssl(signed: Received, shown: str) -> str:
    headers, body = signed.headers, signed.body
    key = base64.b64decode(shown.removeprefix("whsec_")).hex()
    what = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    mac = subprocess.run(command, input=what, capture_output=True, check=True, timeout=60).stdout
    return "v1," + base64.b64encode(mac).decode()


def test_what_is_not_taken_is_noted_without_secrets_and_tried_again(
    store: Store, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    password = tmp_path / "password"
    password.write_text("geheim\n")
    with receiver() as hook, mailbox() as box, receiver() as elsewhere:
        made = settings.model_copy(
            update={
                "mail_url": f"smtp://vaesvc@127.0.0.1:{box.port}", "mail_from": "vaesvc@example.org",
                "mail_password_file": password,
            }
        )  # fmt: skip
        mail = wire.NoticeRequest(channel=Channel.MAIL, address="ann@example.org", notices=(Notice.CANCELLED,))
        hook.status, hook.location = 302, elsewhere.url
        cancelled(store, webhook(f"{hook.url}?key=verborgen"), mail)
        deliver(store, made)
        assert elsewhere.received == []  # no redirect is followed
        assert sorted(str(one.error) for one in _told(store)) == [
            "127.0.0.1 answered 302", "127.0.0.1 does not take the login (535)",
        ]  # fmt: skip
        assert "verborgen" not in caplog.text
        assert "geheim" not in caplog.text + str(sql(settings.database_url, "SELECT error FROM vaesvc_outbox"))
        hook.status, hook.location = 200, ""
        password.write_text("right\n")
        sql(settings.database_url, "UPDATE vaesvc_outbox SET next_at = 0")
        deliver(store, made)
        assert store.notices.pending() == 0
        hook.status = 410  # wants no more
        cancelled(store, webhook(hook.url))
        deliver(store, made)
        assert store.notices.pending() == 0


def _told(store: Store) -> list[Subscription]:
    return store.notices.all("ann")


def test_inside_addresses_are_not_called_unless_a_setting_lists_them(store: Store, settings: Settings) -> None:
    with receiver() as hook:
        for address in (hook.url, hook.url.replace("127.0.0.1", "localhost")):
            cancelled(store, webhook(address))
            deliver(store, settings.model_copy(update={"notify_networks": ""}))
        assert hook.received == []
        assert all("is not called: it is no public address" in str(one.error) for one in _told(store))
        sql(settings.database_url, "UPDATE vaesvc_outbox SET next_at = 0")
        deliver(store, settings.model_copy(update={"notify_networks": "127.0.0.0/8, ::1/128"}))
        assert len(hook.received) == 2


def test_tls_is_of_the_name_that_was_asked_for(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = _certified(tmp_path, "localhost")
    with receiver(context=context) as hook, mailbox(context=context) as box:
        named, by_number = (f"https://{host}:{hook.port}/hook" for host in ("localhost", "127.0.0.1"))
        mail = wire.NoticeRequest(channel=Channel.MAIL, address="ann@example.org", notices=(Notice.CANCELLED,))
        made = settings.model_copy(
            update={
                "notify_networks": "127.0.0.0/8, ::1/128", "mail_url": f"smtps://localhost:{box.port}",
                "mail_from": "vaesvc@example.org",
            }
        )  # fmt: skip
        cancelled(store, webhook(named), webhook(by_number), mail)
        deliver(store, made)  # nobody vouches for the certificate
        assert (hook.received, box.mails, store.notices.pending()) == ([], [], 3)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        sql(settings.database_url, "UPDATE vaesvc_outbox SET next_at = 0")
        deliver(store, made)
        assert [one.headers["host"] for one in hook.received] == [f"localhost:{hook.port}"]
        assert (len(box.mails), store.notices.pending()) == (1, 1)  # the certificate is not the number's


def _certified(folder: Path, name: str) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / "certificate.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, folder / "key.pem")
    return context


def test_a_user_is_told_through_the_api(settings: Settings) -> None:
    with receiver() as hook, running_api(settings) as api, api.client() as ann, api.user("bob") as bob:
        made = ann.notices.add(webhook(hook.url, Notice.CANCELLED))
        assert made.secret == messages.shown(_secret(settings), made.subscription.id)
        assert ann.notices.add(webhook(hook.url, Notice.CANCELLED)) == made
        ann.cancel(ann.submit(resolve(RECIPE)).id)
        bob.cancel(bob.submit(resolve(RECIPE)).id)
        trial = ann.notices.try_out(made.subscription.id)
        deliver(api.store, settings)
        assert {one.headers["webhook-id"] for one in hook.received} >= {trial}
        assert sorted(json.loads(one.body)["type"] for one in hook.received) == ["job.cancelled", "trial"]
        assert [one.id for one in ann.notices.all()] == [made.subscription.id]
        assert bob.notices.all() == []
        ann.notices.remove(made.subscription.id)
        assert ann.notices.all() == []
        with pytest.raises(UsageError, match="sends no mail"):
            ann.notices.add(wire.NoticeRequest(channel=Channel.MAIL, address="ann@example.org"))
        with pytest.raises(UsageError, match="write https://"):
            ann.submit(resolve(RECIPE), notify=[webhook("gopher://x")])
