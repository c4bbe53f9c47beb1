"""`vaesvc data` on this machine alone: add, show, list, rm, and what is said of mistakes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vaesvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: its exit code, what it printed, and what it noted."""
    monkeypatch.setenv("VAESVC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VAESVC_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vaesvc", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for at in range(10):
            picture = np.full((30, 40 + at, 3), (10 * at, 100, 200), np.uint8)
            Image.fromarray(picture).save(folder / label / f"{at}.jpg")
    return folder


def test_photos_are_added_shown_listed_and_removed(vaesvc: Run, photos: Path, tmp_path: Path) -> None:
    code, out, err = vaesvc("data", "add", "photos", str(photos), "--local", "--size", "16")
    assert code == 0
    assert "channel 3 x height 16 x width 16" in out
    assert "16, 2, 2" in out
    assert "labels: 2 classes in natural order: cat, dog" in err
    assert "scaled, bilinear" in err

    code, out, err = vaesvc("data", "show", "photos", "--out", str(tmp_path / "few.png"))
    assert code == 0
    with Image.open(tmp_path / "few.png") as few:
        assert few.width > 400
        assert len(set(few.convert("RGB").getdata())) > 10
    assert f"picture: {tmp_path / 'few.png'}" in out

    code, out, _ = vaesvc("data", "list")
    assert code == 0
    assert out.splitlines()[1].split()[:5][0] == "photos"
    assert "3x16x16" in out

    code, out, _ = vaesvc("data", "list", "--json")
    (listed,) = json.loads(out)
    assert listed["facts"]["sizes"] == [16, 2, 2]
    folder = tmp_path / "cache" / "own" / listed["digest"]
    assert folder.is_dir()

    code, out, err = vaesvc("data", "rm", "photos")
    assert code == 0
    assert "its data are deleted" in err
    assert not folder.exists()


def test_json_says_all(vaesvc: Run, photos: Path) -> None:
    code, out, _ = vaesvc("data", "add", "photos", str(photos), "--local", "--size", "8x12", "--grey", "--json")
    assert code == 0
    said: dict[str, Any] = json.loads(out)
    assert said["facts"]["shape"] == [1, 8, 12]
    assert said["facts"]["digest"] == said["digest"]
    assert said["source"]["files"] == 20
    assert said["source"]["name"] == "my photos"
    assert said["made"]["changes"] == {"scaled": 20}


@pytest.mark.parametrize(
    ("save", "options", "printed"),
    [
        (lambda path: path.with_suffix(".txt").write_text("a rose\nis a\nrose\nby\n"), (), "<bos>"),
        (lambda path: np.save(path, np.random.default_rng(0).normal(size=(20, 6))), (), "picture:"),
        (lambda path: np.save(path, np.zeros((9, 4, 8, 8), np.uint8) + 5), ("--axes", "NTHW"), "picture:"),
        (lambda path: np.save(path, np.zeros((9, 2, 8, 8)) + 0.5), (), "picture:"),
    ],
    ids=["text", "vectors", "video", "two channels"],
)
def test_every_kind_can_be_shown(
    vaesvc: Run, tmp_path: Path, save: Callable[[Path], Any], options: tuple[str, ...], printed: str
) -> None:
    save(tmp_path / "x.npy")
    (path,) = tmp_path.glob("x.*")
    code, _, err = vaesvc("data", "add", "mine", str(path), "--local", *options)
    assert code == 0, err
    code, out, _ = vaesvc("data", "show", "mine")
    assert code == 0
    assert printed in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "photos", "{photos}"), "sizes (height x width)"),
        (("add", "../x", "{photos}"), "names no data set"),
        (("add", "x", "{photos}/none"), "does not exist"),
        (("add", "x", "{photos}", "--size", "0"), "--size 0: a number of pixels"),
        (("add", "x", "{photos}", "--split", "1/1/1"), "together they are 1"),
        (("add", "x", "{photos}", "--background", "mauve"), "white, black, grey or #rrggbb"),
        (("add", "x", "{photos}", "--scale", "log"), "--scale log: one of bits"),
        (("add", "x", "{photos}", "--as", "sound"), "--as sound: one of images"),
        (("add", "x", "{photos}", "--workers", "0"), "--workers 0: at least 1"),
        (("show", "nobody"), "Names here: none"),
        (("rm", "nobody"), "Names here: none"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(vaesvc: Run, photos: Path, arguments: tuple[str, ...], said: str) -> None:
    filled = [argument.format(photos=photos) for argument in arguments]
    local = ["--local"] if filled[0] == "add" else []
    code, out, err = vaesvc("data", *filled, *local)
    assert code == 2
    assert said in err
    assert not out
