"""Findings in a folder: an evaluation that was interrupted goes on there, and one that was done is not done again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_models.evaluation.findings import Findings, read
from vae_models.evaluation.specs import EvaluationPlan, EvaluatorSpec

FORMAT = 1
ABOUT = "evaluated.json"
SCRATCH = "partial"


class FolderKept:
    """A `run.Kept` in a folder: KEY/ has what `Findings.write` writes, and in evaluated.json of what they are.

    Findings about other weights, such as those of a run that was longer since, are not returned; new ones replace them.
    """

    def __init__(
        self, folder: Path, *, weights: str, plan: EvaluationPlan, evaluators: Mapping[str, EvaluatorSpec]
    ) -> None:
        """Keep findings in `folder`. weights: the SHA-256 of the manifest that names the model's files. evaluators:
        what is evaluated by the plan, as `run.chosen` has it."""
        self._folder = folder
        self._weights = weights
        self._plan = plan.model_dump(mode="json", exclude={"evaluators"})
        self._evaluators = evaluators
        for left in folder.glob(f".{SCRATCH}-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)

    def get(self, key: str) -> Findings | None:
        """Return the findings that were put there under this key, about these weights."""
        if about(self._folder / key).get("weights") != self._weights:
            return None
        return read(self._folder / key)

    def put(self, key: str, findings: Findings) -> None:
        """Write the findings, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        said = {"format": FORMAT, "weights": self._weights, "plan": self._plan}
        said |= {"evaluator": self._evaluators[key].model_dump(mode="json")}
        with tempfile.TemporaryDirectory(prefix=f".{SCRATCH}-", dir=self._folder) as scratch:
            new = Path(scratch) / key
            findings.write(new)
            (new / ABOUT).write_text(json.dumps(said, indent=1) + "\n")
            target = self._folder / key
            shutil.rmtree(target, ignore_errors=True)
            new.rename(target)


def about(folder: Path) -> Mapping[str, Any]:
    """Return of what the findings in a KEY/ are: the weights' sum, the plan, the evaluator; empty where none are."""
    try:
        said: dict[str, Any] = json.loads((folder / ABOUT).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return said if said.get("format") == FORMAT else {}
