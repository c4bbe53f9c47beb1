"""Scores as detectors of anomalies: the data of some classes are strange, and a score should be larger of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.cli import output
from service.errors import UsageError

if TYPE_CHECKING:
    from service.cli.use.source import Source
    from vae_models.data.spec import LabelSpec


@dataclass(frozen=True, kw_only=True)
class Anomalies:
    """which: bool [n]; names: the classes; label: what they are classes of."""

    which: Any
    names: list[str]
    label: str

    def tell(self, scores: Mapping[str, Any]) -> None:
        """Print AUROC and AUPR of each score, by scikit-learn: the anomalies are the positive class."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        count, total = int(self.which.sum()), len(self.which)
        output.note(
            f"Anomalies: {count:,} of {total:,} data, those of {self.label} {', '.join(self.names)}; the others are "
            "normal. "
            f"A score by chance has AUROC 0.5 and AUPR {count / total:.4f}"
        )
        rows = [
            (name, f"{roc_auc_score(self.which, values):.4f}", f"{average_precision_score(self.which, values):.4f}")
            for name, values in scores.items()
        ]
        output.table(("SCORE", "AUROC", "AUPR"), rows)


def of(rows: Source, classes: Sequence[str]) -> Anomalies:
    """Return which data are of these classes, each a number or a name.

    Raises UsageError where the data have no labels, or labels of no classes, for an unknown class, and where all or
    none of the data are anomalies.
    """
    import numpy as np

    if rows.labels is None:
        raise UsageError(f"--anomaly: {rows.config.name} has no labels: leave it out, or give data that have some")
    values, spec = rows.labels
    if values.ndim != 1 or values.is_floating_point():
        raise UsageError(f"--anomaly: the labels of {rows.config.name} ({spec.name}) are no classes")
    labels = values.numpy()
    numbers = [_number(each, spec, sorted({int(label) for label in labels})) for each in classes]
    which = np.isin(labels, numbers)
    if which.all() or not which.any():
        amount = "all" if which.all() else "none"
        raise UsageError(
            f"--anomaly: {amount} of the {rows.count:,} data are of {', '.join(classes)}: nothing to tell apart"
        )
    return Anomalies(which=which, names=[_name(number, spec) for number in numbers], label=str(spec.name))


def _number(given: str, spec: LabelSpec, there: Sequence[int]) -> int:
    names = spec.classes or ()
    if given in names:
        return names.index(given)
    try:
        number = int(given)
    except ValueError:
        number = -1
    if number not in there and not 0 <= number < len(names):
        known = ", ".join(_name(each, spec) for each in there[:20])
        raise UsageError(f"--anomaly {given}: there is no such {spec.name}; there are {known}")
    return number


def _name(number: int, spec: LabelSpec) -> str:
    return spec.classes[number] if spec.classes is not None and number < len(spec.classes) else str(number)
