"""MLflow's page, opened for model training.

MLflow 3.17 has two modes, "GenAI" and "Model training", which a browser keeps and an experiment's kind does not change;
the first is where everybody begins, and there an experiment of trained models opens as an empty list of traces and
evaluations. All that this server keeps are trained models: so its page begins in the other mode. Who changed the mode
keeps it. Links elsewhere can say it themselves: `?workflowType=machine_learning` (`run_page`). Nor does the panel of an
assistant, whose models this server does not pass on, open by itself.

A card with a picture begins with every param of the run, which pushes the picture of a real run out of the card: here
they are folded to one line. They are whole on the run's own page, and in the tooltip. And the picture begins at the
top of its square, which is higher than the card.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MODE = "workflowType=machine_learning"
DEFAULTS = {  # of the browser's storage, as MLflow's page keeps them
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}
SCRIPT = (
    f"<script>try{{for(const[k,v]of Object.entries({json.dumps(DEFAULTS)}))"
    "if(localStorage.getItem(k)===null)localStorage.setItem(k,v)}catch{}</script>"
).encode()
_CARD = '[data-testid="experiment-view-compare-runs-card"]'
STYLE = (
    f"<style>{_CARD} [tooltip-data-state]:has(> div > label) > div:nth-child(2)"
    "{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:1;overflow:hidden}"
    f"{_CARD} div:has(> .rc-image){{height:auto!important;min-height:0!important;aspect-ratio:auto!important}}</style>"
).encode()
_CONDITIONS = (b"if-none-match", b"if-modified-since", b"accept-encoding")  # the page is small, and always sent plain


def run_page(experiment: str, run_id: str) -> str:
    """Return where MLflow shows a run: behind the server's address and a slash."""
    return f"#/experiments/{experiment}/runs/{run_id}?{MODE}"


class Page:
    """An ASGI application around MLflow's, which adds a script and a style to its page and passes on all else."""

    def __init__(self, app: ASGIApp, static_prefix: str = "") -> None:
        self._app = app
        self._paths = {"/", f"{static_prefix.rstrip('/')}/"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in _CONDITIONS]
        await self._app({**scope, "headers": headers}, receive, _Added(send))


class _Added:
    """Sends an answer on, with both in it where it is HTML."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_html(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        body = bytes(self._body).replace(b"<head>", b"<head>" + SCRIPT + STYLE, 1)
        changed = (b"content-length", b"etag", b"last-modified")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in changed]
        headers += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-cache")]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _is_html(start: Message) -> bool:
    kind = next((value for name, value in start["headers"] if name.lower() == b"content-type"), b"")
    return bool(start["status"] == 200 and kind.startswith(b"text/html"))
