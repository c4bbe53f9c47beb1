"""The page of `vaesvc report`, of real runs, in a real Chromium that has nothing but the file."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import browser
from tests.browser import Browser
from tests.command import RECIPE, vaesvc

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: as root on Debian, deploy/debian-packages.sh installs it"
)
WIDTHS = (1280, 400)  # pixels
NAME = "a run with a very long name <b>and markup</b> & an_unbroken_word_that_is_longer_than_a_telephone_is_wide"
RUNS = {"first": (), NAME: ("beta.value=4",), "multi-rate": ("beta.kind=log-uniform", "model.gating={}")}
QUICK = ("epochs=4", "log_every_steps=5", "evaluation.every_epochs=1", "model.backbone.hidden=[16]")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, alone in its folder: what it needs beside itself is gone."""
    root = tmp_path_factory.mktemp("report")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAESVC_", "AWS_"))}
    env = kept | {"VAESVC_HOME": str(root / "home"), "VAESVC_CONFIG": "", "OMP_NUM_THREADS": "1"}
    for name, changes in RUNS.items():
        sets = [part for change in (*QUICK, *changes) for part in ("--set", change)]
        vaesvc(env, "run", RECIPE, *sets, "--out", str(root / name), seconds=300)
        evaluators = ["--evaluator", "likelihood", "--evaluator", "samplers"]
        evaluators += ["--evaluator", "rate-distortion"] if name == "multi-rate" else []
        vaesvc(env, "evaluate", str(root / name), *evaluators, seconds=300)
    out = root / "page" / "report.html"
    done = vaesvc(env, "report", *(str(root / name) for name in RUNS), "--out", str(out), seconds=300)
    assert done.stdout == f"{out}\n"
    alone = tmp_path_factory.mktemp("alone") / "report.html"
    shutil.move(out, alone)
    shutil.rmtree(root)
    return alone


@pytest.fixture(scope="module")
def page(html: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("browser") / "profile") as opened:
        whole(opened, html)
        yield opened


def whole(page: Browser, html: Path, text: str = "What differs") -> str:
    """The text of the page once all of it is read: its beginning is shown before."""
    page.open(html.as_uri(), text)
    deadline = time.monotonic() + 60
    while page.run("document.readyState") != "complete":
        assert time.monotonic() < deadline, "the page is not read to its end"
        time.sleep(0.1)
    return page.text()


def test_it_opens_without_a_complaint_and_asks_for_nothing(page: Browser, html: Path) -> None:
    assert page.complaints() == []
    outside = [address for address in page.requested() if not address.startswith(("data:", "about:"))]
    assert set(outside) == {html.as_uri()}


def test_the_browser_would_have_told_of_both(page: Browser, tmp_path: Path) -> None:
    """The check of the check: a page that calls outside and fails is heard."""
    wrong = tmp_path / "wrong.html"
    wrong.write_text("<body>wrong<script>console.error('no')</script><img src='http://127.0.0.1:9/x.png'></body>")
    try:
        whole(page, wrong, "wrong")
        assert any("no" in said for said in page.complaints())
        assert "http://127.0.0.1:9/x.png" in page.requested()
    finally:
        page.events.clear()


def test_everything_is_there(page: Browser, html: Path) -> None:
    shown = whole(page, html)
    for text in (
        *RUNS,  # markup in a name is text
        "beta.value",
        "elbo",
        "log-likelihoods of a density",
        "★",
        "rate and distortion on the test split, digits (density)",
        "From the same noise, in the same order.",
        "means/prior (test)",
        "reconstructions (end of training)",
    ):
        assert text in shown
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.run("document.images.length") >= 9
    assert page.run(broken) == 0


def test_models_lie_over_one_another_in_each_curve(page: Browser, html: Path) -> None:
    whole(page, html)
    drawn = (
        "[...document.querySelectorAll('figure')].filter(each => each.querySelector('svg')).map(each => "
        "[each.innerText.split('\\n')[0], [...each.querySelectorAll('text')].map(text => text.textContent)])"
    )
    titles = dict(json.loads(page.run(f"JSON.stringify({drawn})")))
    for name in ("val/elbo", "val/rate", "val/distortion", "train/loss"):
        assert {"A", "B", "C"} <= set(titles[f"{name}, digits (density)"]), name


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_at(width: int, page: Browser, html: Path) -> None:
    """Nothing is wider than the window but what scrolls by itself; text is not small, and nothing covers another."""
    page.resize(width)
    whole(page, html)
    assert page.run("document.documentElement.scrollWidth") <= width
    too_wide = (
        "[...document.querySelectorAll('h1,h2,h3,p,dl,figure,img,svg,summary,.scroll')].filter(each => {"
        f"const at = each.getBoundingClientRect(); return at.width && (at.left < 0 || at.right > {width})"
        "}).map(each => each.outerHTML.slice(0, 80))"
    )
    assert page.run(too_wide) == []
    small = (
        "[...document.querySelectorAll('main *')].filter(each => each.children.length === 0 && each.textContent.trim()"
        " && !each.closest('svg') && parseFloat(getComputedStyle(each).fontSize) < 10).length"
    )
    assert page.run(small) == 0
    first = page.run("document.querySelector('table.values tbody td').getBoundingClientRect().right")
    assert first <= width  # the first model's value is seen without scrolling
