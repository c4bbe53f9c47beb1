"""MLflow's page with one script more; everything else as it was."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from service.tracking.page import SCRIPT, STYLE, Page, run_page

HTML = b"<!doctype html><html><head><title>MLflow</title></head></html>"
Messages = list[MutableMapping[str, Any]]


def answers(path: str, kind: bytes, prefix: str = "") -> Messages:
    """In two parts, as a file is sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert not [name for name, _ in scope["headers"] if name == b"if-none-match" and path.endswith("/")]
        headers = [(b"content-type", kind), (b"content-length", str(len(HTML)).encode()), (b"etag", b"x")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": HTML[:20], "more_body": True})
        await send({"type": "http.response.body", "body": HTML[20:]})

    sent: Messages = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"if-none-match", b"x")]}
    asyncio.run(Page(app, prefix)(scope, receive, send))
    return sent


def body(messages: Messages) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def test_fault_13b_the_page_begins_with_model_training() -> None:
    for path, prefix in (("/", ""), ("/mlflow/", "/mlflow")):
        start, *rest = answers(path, b"text/html; charset=utf-8", prefix)
        assert body(rest) == HTML.replace(b"<head>", b"<head>" + SCRIPT + STYLE)
        headers = dict(start["headers"])
        assert headers[b"content-length"] == str(len(body(rest))).encode()
        assert b"etag" not in headers  # a browser that has the page without it must not keep it


def test_what_is_no_page_is_passed_on() -> None:
    assert body(answers("/", b"application/json")) == HTML
    assert body(answers("/static-files/index.html", b"text/html")) == HTML


def test_links_say_the_mode_themselves() -> None:
    assert run_page("1", "abc") == "#/experiments/1/runs/abc?workflowType=machine_learning"
