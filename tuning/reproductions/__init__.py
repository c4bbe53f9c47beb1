"""The papers' tables and figures, each as one command: what is trained for it, what is measured, what is claimed.

    entry.py     what a reproduction is
    claims.py    orderings, ratios and values that a paper claims, and verdicts on them
    readings.py  where a number of a table comes from
    training.py  runs that are trained and evaluated once, in a folder
    runner.py    a reproduction from start, or interruption, to result
    results.py   numbers beside the paper's, as JSON and Markdown

Every other module has a paper's tables. Installed packages bring theirs by an entry point `reproduction` of the group
`vaesvc.parts`, whose value is a `Reproduction` or a tuple of them. Importing this loads no torch.
"""

from __future__ import annotations

from typing import Any

from tuning.reproductions.entry import Reproduction
from vae_models.parts import Seam


def _wrong(part: Any) -> str | None:
    if not isinstance(part, Reproduction):
        return f"{part!r} is no Reproduction: make it with tuning.reproductions.entry.Reproduction"
    paper, _, table = part.name.partition("/")
    if not paper or not table or "/" in table:
        return "a reproduction's name is PAPER/TABLE"
    return None if callable(part.build) else "its build is not a function that returns a Setup"


REPRODUCTIONS: Seam[Reproduction] = Seam(
    "reproduction",
    [
        f"tuning.reproductions.{module}:REPRODUCTIONS"
        for module in (
            *("mr_vae", "mr_vae_curves", "mr_vae_images", "sigma_vae", "vhp", "vhp_pendulum", "vhp_latents"),
            *("ar_elbo_section_4", "ar_elbo_noise", "ar_elbo_section_6", "ar_elbo_fid"),
        )
    ],
    check=_wrong,
    summary="a table or figure of a paper",
)
