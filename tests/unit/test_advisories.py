"""The lock against the stored list of advisories: what is known is caught, and the list says how old it is."""

from __future__ import annotations

import datetime
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TODAY = datetime.date(2027, 1, 1)


def _script() -> ModuleType:
    found = importlib.util.spec_from_file_location("check_advisories", ROOT / "deploy" / "check_advisories.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


check = _script()


def test_the_lock_has_no_known_vulnerable_pin(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([], TODAY) == 0
    assert "days old" in capsys.readouterr().out


def test_a_known_vulnerable_pin_is_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "constraints.txt"
    lock.write_text("# a lock\nStarlette==0.39.2\nh11==0.16.0\ntorch==2.5.1\nnobody-knows==1.0\n")
    assert check.main([str(lock)], TODAY) == 1
    said = capsys.readouterr().out
    assert "starlette 0.39.2: " in said
    assert "CVE-2024-47874" in said
    assert "fixed in 0.40.0" in said
    assert "CVE-2025-32434" in said
    assert "h11" not in said


@pytest.mark.parametrize(
    ("version", "expected"), [("1.0", False), ("1.1", True), ("1.9.9", True), ("2.0rc1", True), ("2.0", False)]
)
def test_a_range_begins_with_its_first_version_and_ends_before_the_fix(version: str, expected: bool) -> None:
    assert check.vulnerable(check.Version(version), {"introduced": "1.1", "fixed": "2.0"}) is expected
    assert check.vulnerable(check.Version("99"), {"introduced": "1.1", "fixed": None})


def test_what_is_accepted_has_a_reason_and_an_advisory() -> None:
    known = json.loads((ROOT / "deploy" / "advisories.json").read_text())
    ids = [one["id"] for one in known["advisories"]]
    assert len(ids) == len(set(ids)) > 50
    assert set(known["accepted"]) <= set(ids)
    assert all(len(why) > 40 for why in known["accepted"].values())


def test_an_old_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    check.main([], datetime.date(2030, 1, 1))
    assert "it is old: renew it" in capsys.readouterr().out


def test_a_report_of_pip_audit_is_merged_once() -> None:
    known: dict[str, Any] = {"compiled": "2026-01-01", "source": "s", "advisories": [], "accepted": {}}
    fault = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0", "1.5"], "description": "bad\nthing"}
    report = {
        "dependencies": [{"name": "Some_Package", "version": "1.2", "vulns": [fault]}, {"name": "x", "vulns": []}]
    }
    once = check.merged(known, report, TODAY)
    assert once["compiled"] == "2027-01-01"
    assert check.merged(once, report, TODAY)["advisories"] == once["advisories"]
    assert json.loads(check.written(once)) == once
    found = list(check.findings({"some-package": check.Version("1.2")}, once))
    assert found == ["some-package 1.2: bad thing (PYSEC-1, CVE-1); fixed in 1.5"]
