"""What a reproduction is, as data: a table or figure of a paper, what it claims, and what is trained to see whether."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tuning.reproductions.claims import Cell, Claim
from tuning.study import StageConfig
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan

if TYPE_CHECKING:
    from tuning.reproductions.readings import Reading

Scale = Literal["small", "paper"]
SCALES: tuple[Scale, ...] = ("small", "paper")
PAPERS: Mapping[str, str] = MappingProxyType(
    {
        "mr-vae": "Multi-Rate VAE (Bae et al. 2023)",
        "sigma-vae": "Simple and effective VAE training with calibrated decoders (Rybkin et al. 2020)",
        "vhp": "Learning hierarchical priors in VAEs (Klushyn et al. 2019)",
        "ar-elbo": "Preventing oversmoothing in VAE via generalized variance parameterization (Takida et al.)",
    }
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is measured. name: as cells call it; heading: for people, with its unit; digits: that are shown."""

    name: str
    heading: str
    digits: int = 4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A number that is chosen first, as the paper does: a stage of a study on `base`, whose winner is taken over."""

    base: TrainConfig
    stage: StageConfig


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What one scale trains and measures.

    rows:     headings by name, in the table's order
    runs:     what is trained, by name; each with the seeds 0, 1, ...
    cells:    where each number of the table comes from
    claims:   that are judged at this scale
    seeds:    how many
    plan:     the evaluation of every run; None: what training reports is enough
    plans:    of the runs that have another one
    measures: more than evaluators measure, "module:function" of (subject) -> {name: number}
    choices:  what is chosen first; chosen_for: run -> the choice that it takes over
    drawings: pictures of the whole, "module:function" of (results) -> Picture
    shown:    evaluators' pictures that are shown of each run, of the first seed
    differs:  what is not as in the paper, a sentence each
    """

    rows: Mapping[str, str]
    cells: Mapping[Cell, Reading]
    claims: tuple[Claim, ...]
    runs: Mapping[str, TrainConfig] = field(default_factory=lambda: MappingProxyType({}))
    seeds: int = 1
    plan: EvaluationPlan | None = None
    plans: Mapping[str, EvaluationPlan] = field(default_factory=lambda: MappingProxyType({}))
    measures: tuple[str, ...] = ()
    choices: Mapping[str, Choice] = field(default_factory=lambda: MappingProxyType({}))
    chosen_for: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    drawings: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One table or figure of a paper.

    name:    "PAPER/TABLE", as `vaesvc reproduce PAPER TABLE` takes it
    summary: one line on what it shows
    columns: of its table
    paper:   the paper's numbers, of cells that it has
    notes:   what a reader of the paper's numbers has to know
    build:   returns what a scale trains; the scales that there are
    """

    name: str
    summary: str
    columns: tuple[Column, ...]
    build: Callable[[Scale], Setup]
    paper: Mapping[Cell, float] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = SCALES
