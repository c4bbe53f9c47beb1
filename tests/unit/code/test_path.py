"""A package on a process's path: exactly the one that it should have, in front of nobody else's modules."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.code import path
from service.code.build import built
from service.code.reference import VARIABLE, CodeRef, absent, present
from service.code.shelf import Shelf
from service.code.wheel import CodeError, Wheel, unpack
from service.errors import NotFoundError, UnavailableError, VaesvcError
from tests.packages import package


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put on the path is gone afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    return built(package(tmp_path / "source"))


def test_a_package_is_put_in_front_and_handed_on_and_another_is_refused(wheel: Wheel, tmp_path: Path) -> None:
    assert present() is None
    assert absent(wheel.ref)
    folder = path.put(wheel, tmp_path / "cache")
    assert sys.path[0] == str(folder)
    assert (folder / "my_parts" / "specs.py").is_file()
    assert present() == wheel.digest
    assert not absent(wheel.ref)
    assert path.put(wheel, tmp_path / "another cache") == folder  # it is there
    path.check_path()
    other = built(package(tmp_path / "other", files={"my_parts/more.py": ""}))
    with pytest.raises(CodeError, match="has another package already"):
        path.put(other, tmp_path / "cache")


def test_what_lies_in_the_cache_is_compared_and_made_anew_where_it_was_changed(wheel: Wheel, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "code" / path.folder_name(wheel.digest)
    folder.mkdir(parents=True)
    unpack(wheel, folder)
    (folder / "my_parts" / "specs.py").write_text("evil = True\n")
    assert path.put(wheel, tmp_path / "cache") == folder
    assert "evil" not in (folder / "my_parts" / "specs.py").read_text()


def test_a_process_checks_the_package_that_was_put_there_for_it(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.check_path()  # none is wanted
    monkeypatch.setenv(VARIABLE, wheel.digest)
    with pytest.raises(CodeError, match="is not on the path"):
        path.check_path()
    folder = tmp_path / path.folder_name(wheel.digest)
    folder.mkdir()
    unpack(wheel, folder)
    sys.path.append(str(folder))
    path.check_path()
    (folder / "my_parts" / "more.py").write_text("")
    with pytest.raises(CodeError, match="is not what was submitted"):
        path.check_path()


def test_a_module_with_the_name_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    build = '\n[tool.setuptools]\npackages = ["my_parts"]\npy-modules = ["yaml"]\n'
    source = package(tmp_path / "source", files={"yaml.py": ""})
    (source / "pyproject.toml").write_text((source / "pyproject.toml").read_text() + build)
    with pytest.raises(
        CodeError, match=r"top-level module 'yaml', which is .*'s here|imported in this process already"
    ):
        path.put(built(source), tmp_path / "cache")


def until(asked: Callable[[], Wheel | None]) -> Wheel:
    deadline = time.monotonic() + 10
    while (found := asked()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_a_shelf_never_waits_tries_on_and_says_what_is_gone(wheel: Wheel) -> None:
    answers: list[VaesvcError | Wheel] = [UnavailableError("S3 is away"), wheel, NotFoundError("gone")]
    asked: list[CodeRef] = []

    def fetch(ref: CodeRef) -> Wheel:
        asked.append(ref)
        answer = answers.pop(0)
        if isinstance(answer, VaesvcError):
            raise answer
        return answer

    shelf = Shelf(fetch)
    assert until(lambda: shelf.take(wheel.ref)) == wheel
    assert shelf.take(wheel.ref) == wheel
    assert len(asked) == 2  # once in vain, once for good
    other = wheel.ref.model_copy(update={"digest": "0" * 64})
    with pytest.raises(NotFoundError):
        until(lambda: shelf.take(other))
