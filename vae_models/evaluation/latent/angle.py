"""Whether a latent plane has found the angle that the data turn by (VHP appendix B.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from vae_models.evaluation.findings import Findings, Picture, Value
from vae_models.evaluation.latent.encoded import at_each_beta, at_least, means
from vae_models.evaluation.latent.factors import factors
from vae_models.evaluation.pictures.style import CYCLIC, panels
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics.angle import AngleFit, angle_fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RADIANS = "rad"
ERRORS = {
    "ols_error": "mean absolute residual of the OLS of B.3",
    "angular_error": "mean absolute difference from the angle on the fitted circle",
    "neighbour_error": "mean absolute difference from the angle of the nearest other datum in z",
}


@dataclass(frozen=True, kw_only=True)
class AngleEvaluator:
    """The circle fitted to the posterior means, the OLS of B.3 on it, and their errors in radians."""

    def __call__(self, subject: Subject) -> Findings:
        """Return angle_ols_error, angle_angular_error, angle_neighbour_error, slope and circle, and figure 14."""
        return at_each_beta(subject, lambda beta: self._at(subject, beta))

    def _at(self, subject: Subject, beta: float | None) -> Findings:
        at_least(subject.count(), 3)
        z, (angle,) = means(subject, beta=beta), factors(subject)
        try:
            fit = angle_fit(z, angle.values)
        except ValueError as error:
            raise Inapplicable(str(error)) from error
        return Findings(values=tuple(_values(fit, len(z))), pictures=(_picture(fit, z, angle.values),))


def _values(fit: AngleFit, count: int) -> list[Value]:
    values = [
        Value(
            name=f"angle_{name}", value=getattr(fit, name), error=fit.errors[name], unit=RADIANS, mode="min",
            count=count, note=note,
        )
        for name, note in ERRORS.items()
    ]  # fmt: skip
    off = fit.radial_deviation / fit.radius
    values.append(Value(name="angle_ols_slope", value=fit.slope, unit="1", count=count, note="1 of a perfect latent"))
    values.append(Value(name="angle_radius", value=fit.radius, unit="units of z", count=count, note="of the circle"))
    note = "root mean square distance from the circle over its radius"
    return [*values, Value(name="angle_off_circle", value=off, unit="1", mode="min", count=count, note=note)]


def _picture(fit: AngleFit, z: Tensor, angles: Tensor) -> Picture:
    """Return the means with the fitted circle, and the OLS, as VHP's figures 10 to 16 and 14 have them."""

    def latent(axes: Axes) -> None:
        from matplotlib.patches import Circle

        points = axes.scatter(
            z[:, 0], z[:, 1], c=angles, cmap=CYCLIC, vmin=-math.pi, vmax=math.pi, s=6, rasterized=True
        )
        axes.add_patch(Circle(fit.centre, fit.radius, fill=False, color="black", linestyle="--", linewidth=1))
        axes.set_aspect("equal", "datalim")
        axes.set_xlabel("mean of $z_1$")
        axes.set_ylabel("mean of $z_2$")
        axes.set_title("posterior means, fitted circle")
        axes.figure.colorbar(points, ax=axes, label="true angle [rad]")

    def regression(axes: Axes) -> None:
        axes.scatter(fit.latent_side, fit.true_side, s=6, rasterized=True)
        ends = [-math.pi / 2, math.pi / 2]
        line = [fit.intercept + fit.slope * end for end in ends]
        axes.plot(ends, line, color="black", linestyle="--", label=f"OLS, slope {fit.slope:.2f}")
        axes.set_xlabel("arcsin($z_2$ / r), turned [rad]")
        axes.set_ylabel("true angle, folded [rad]")
        axes.set_title(f"mean absolute residual {fit.ols_error:.3f} rad")
        axes.legend()

    caption = "The latent plane and the true angle; OLS as in VHP B.3."
    return panels("angle", [latent, regression], caption=caption)
