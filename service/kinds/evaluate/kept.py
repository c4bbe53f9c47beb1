"""Findings in the bucket, evaluations/JOB/KEY/: each evaluator's when it is done, read back by every later attempt."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.areas import Area
from service.directories import MANIFEST
from service.kinds.evaluate.storage import PLACE
from vae_models.collectives import broadcast_text, on_first_rank, rank
from vae_models.evaluation.findings import Findings, read

if TYPE_CHECKING:
    import torch

    from service.artifacts import Artifacts


class StoredKept:
    """A `run.Kept` in the bucket, for all workers together: the first reads and writes, and tells the others."""

    def __init__(
        self,
        artifacts: Artifacts,
        job_id: str,
        *,
        device: torch.device,
        check: Callable[[], None] = lambda: None,
        on_findings: Callable[[str, Findings], None] = lambda key, findings: None,
    ) -> None:
        """Keep the findings of a job. check: raises where this attempt must write nothing more. found: is told, on the
        first worker, what there is of each evaluator, whether now or from an earlier attempt."""
        self._artifacts = artifacts
        self._area = Area(artifacts, PLACE, job_id)
        self._device = device
        self._check = check
        self._on_findings = on_findings

    def get(self, key: str) -> Findings | None:
        """Return what is kept under the key; on all workers but the first without its content."""
        there: Findings | None = None

        def look() -> None:
            nonlocal there
            there = self._read(key)

        on_first_rank(look, self._device)
        if not broadcast_text("" if there is None else "there", self._device):
            return None
        if there is not None:
            self._on_findings(key, there)
        return there if rank() == 0 else Findings()

    def put(self, key: str, findings: Findings) -> None:
        """Keep the findings, complete or not at all."""
        on_first_rank(lambda: self._write(key, findings), self._device)

    def _read(self, key: str) -> Findings | None:
        address = self._area.address(f"{self._area.uri}/{key}")
        if not any(stored.uri == f"{address}/{MANIFEST}" for stored in self._artifacts.list(address)):
            return None
        with tempfile.TemporaryDirectory(prefix="vaesvc-findings-") as scratch:
            return read(self._artifacts.get_directory(address, Path(scratch) / key))

    def _write(self, key: str, findings: Findings) -> None:
        self._check()
        with tempfile.TemporaryDirectory(prefix="vaesvc-findings-") as scratch:
            folder = Path(scratch) / key
            findings.write(folder)
            (folder / MANIFEST).write_text(json.dumps({"format": 1, "files": _sums(folder)}, indent=1) + "\n")
            self._artifacts.put_directory(folder, self._area.address(f"{self._area.uri}/{key}"))
        self._on_findings(key, findings)


def _sums(folder: Path) -> dict[str, dict[str, Any]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size
        }
        for path in files
    }  # fmt: skip
