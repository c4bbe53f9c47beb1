"""What is sent to whom: addresses that are never called, signatures that others verify, texts that stay texts."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UsageError
from service.notify import addresses, messages
from service.notify.deliver import MailServer
from service.queue.notice import Channel, Message

SECRET = bytes(range(32))


def message(channel: Channel = Channel.WEBHOOK, **job: Any) -> Message:
    known = {"id": "j1", "name": "digits", "owner": "ann", "state": "FAILED", "attempt": 2, "failures": 2}
    body = {"type": "job.failed", "id": "a" * 32, "at": 12.5, "job": known | {"max_attempts": 3, "reason": None} | job}
    return Message(
        id="a" * 32, subscription="b" * 32, channel=channel, address="ann@example.org", notice="failed", body=body,
        tries=1, created_at=12.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    "number",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:8.8.8.8", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::7f00:1",
    ],
)  # fmt: skip
def test_no_inside_address_is_called(number: str) -> None:
    why = addresses.refusal("https", ipaddress.ip_address(number), ())
    assert why is not None
    assert "notify_networks" in why


def test_public_addresses_are_called_with_tls_and_listed_networks_in_any_way() -> None:
    for number in ("8.8.8.8", "2606:4700::1"):
        assert addresses.refusal("https", ipaddress.ip_address(number), ()) is None
        assert "https alone" in str(addresses.refusal("http", ipaddress.ip_address(number), ()))
    inside = addresses.networks("10.0.0.0/8, ::1/128")
    for number in ("10.9.9.9", "::1"):
        assert addresses.refusal("http", ipaddress.ip_address(number), inside) is None
    assert addresses.refusal("https", ipaddress.ip_address("192.168.0.1"), inside) is not None
    with pytest.raises(UsageError, match=r"notify_networks: .*write networks with commas"):
        addresses.networks("10.0.0.1/8")


@given(st.ip_addresses())
def test_what_is_called_is_public(number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if addresses.refusal("https", number, ()) is None:
        assert number.is_global
        inside = (number.is_private, number.is_loopback, number.is_link_local, number.is_multicast)
        assert not any(inside)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://example.org/", "https://", "//example.org", "https://user:password@example.org/",
        "https://exa mple.org/", "https://example.org:0/", "https://example.org:99999/", "https://[::1/",
        "https://example.org/\r\nx: y", "https:\\\\example.org", "file:///etc/passwd", "https://exämple.org/",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    for channel in (Channel.WEBHOOK, Channel.SLACK):
        with pytest.raises(UsageError, match="address"):
            addresses.check(channel, address, "")


def test_mail_goes_to_mail_addresses_of_the_domains_that_are_allowed() -> None:
    addresses.check(Channel.MAIL, "ann+vae@sub.example.org", "")
    addresses.check(Channel.MAIL, "ann@Example.org", "example.com, example.org")
    for address in ("ann", "ann@", "@example.org", "ann@example.org\nBcc: eve@example.org", "a b@example.org"):
        with pytest.raises(UsageError, match="is no mail address"):
            addresses.check(Channel.MAIL, address, "")
    with pytest.raises(UsageError, match=r"example\.org alone"):
        addresses.check(Channel.MAIL, "ann@evil.example.org", "example.org")


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_names_every_number_is_judged_whatever_it_is_written_as(host: str) -> None:
    with pytest.raises((UsageError, OSError)):
        asyncio.run(addresses.look_up(f"https://{host}/", ()))
    place = asyncio.run(addresses.look_up("http://127.0.0.1:8080/x?y=1", addresses.networks("127.0.0.0/8")))
    assert (place.url, place.host_header) == ("http://127.0.0.1:8080/x?y=1", "127.0.0.1:8080")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl's command line is not installed")
def test_openssl_verifies_a_webhooks_signature() -> None:
    told = message(reason="ran out of memory: ü")
    content = messages.body(told)
    headers = messages.signed(told, content, SECRET, 1_700_000_000)
    shown = messages.shown(SECRET, told.subscription)
    key = base64.b64decode(shown.removeprefix("whsec_")).hex()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    mac = subprocess.run(command, input=signed, capture_output=True, check=True, timeout=60).stdout
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    other = messages.shown(SECRET, "c" * 32)
    assert other != shown  # each subscription has its own


def test_a_message_to_slack_calls_nobody_out_and_is_one_text() -> None:
    sent = json.loads(messages.slack(message(Channel.SLACK, name="<!channel>", reason="a & b")))
    assert sent == {"text": "&lt;!channel&gt; (j1, ann) has failed: a &amp; b"}


def test_a_mail_is_one_mail_whatever_a_job_says() -> None:
    mail = messages.mail(message(Channel.MAIL, reason="line\r\nBcc: eve@example.org\r\n\r\n."), "vaesvc@example.org")
    assert mail["Bcc"] is None
    assert mail["To"] == "ann@example.org"
    assert mail["Message-ID"] == f"<{'a' * 32}@example.org>"
    assert "\n" not in mail["Subject"]
    assert "failures: 2 of 3" in mail.get_content()


def test_a_mail_servers_address_holds_no_password() -> None:
    server = MailServer.of("smtp+starttls://ann%40x@mail.example.org")
    assert (server.scheme, server.host, server.port, server.user) == ("smtp+starttls", "mail.example.org", 587, "ann@x")
    for url in ("smtp://ann:secret@mail.example.org", "http://mail.example.org", "smtps://"):
        with pytest.raises(UsageError, match="mail_password_file") as refused:
            MailServer.of(url)
        assert "secret" not in str(refused.value)
