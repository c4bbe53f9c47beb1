"""Somebody at a browser: follows the way, fills in the forms that the provider shows, and keeps cookies."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx

HOPS = 25


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = given.get("action", "")
        elif tag == "input" and given.get("name"):
            self.fields.setdefault(given["name"], given.get("value", ""))


class Person:
    """A person who logs in as `login` wherever a form asks for it. code: what they read on another screen."""

    def __init__(self, login: str, code: str = "") -> None:
        self._fills = {"login": login, "password": "any", "user_code": code}
        self.http = httpx.Client(
            follow_redirects=False, trust_env=False, timeout=60,
            headers={"accept": "text/html", "sec-fetch-mode": "navigate"},
        )  # fmt: skip
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.http.close()

    def open(self, url: str, *, until: str | None = None) -> httpx.Response:
        """Go on from an address until a page has no form. until: or until an address of this beginning, which is not
        opened: the answer is the one that leads there."""
        answer = self.http.get(url)
        for _ in range(HOPS):
            here = str(answer.url)
            self.seen.append(here)
            if answer.is_redirect:
                there = urljoin(here, answer.headers["location"])
                if until is not None and there.startswith(until):
                    return answer
                answer = self.http.get(there)
                continue
            forms = _Forms()
            forms.feed(answer.text)
            if forms.action is None or urlsplit(forms.action).path.startswith("/oidc/"):
                return answer
            filled = {name: self._fills.get(name) or value for name, value in forms.fields.items()}
            answer = self.http.post(urljoin(here, forms.action), data=filled)
        raise AssertionError(f"the way has no end: {self.seen}")
