"""Files of the CMU Graphics Lab motion capture database. No sums are published: channels and counts are checked."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published
from vae_models.data.spec import DataSpec, LabelSpec

_HOME = "http://mocap.cs.cmu.edu"
MOVEMENTS = ("walk", "jog", "balance", "punch")  # labels 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A recording: `name` is <subject>_<trial>, `frames` what the published file holds, `movement` an index."""

    name: str
    movement: int
    frames: int

    @property
    def subject(self) -> str:
        return self.name.partition("_")[0]


TRIALS = (
    Trial(name="02_01", movement=0, frames=343),
    Trial(name="02_02", movement=0, frames=298),
    Trial(name="35_01", movement=0, frames=358),
    Trial(name="02_03", movement=1, frames=173),
    Trial(name="49_18", movement=2, frames=1102),
    Trial(name="49_19", movement=2, frames=957),
    Trial(name="49_20", movement=2, frames=898),
    Trial(name="02_05", movement=3, frames=1854),
)
_FOLDERS = ("cmu_mocap/all_asfamc/subjects", "all_asfamc/subjects", "subjects")  # of the archive of all trials
SUBJECTS = tuple(sorted({trial.subject for trial in TRIALS}))


def _file(subject: str, name: str) -> DataFile:
    path = f"{subject}/{name}"
    form = Form(name=path, sha256=None, urls=(f"{_HOME}/subjects/{path}",))
    home = f"{_HOME}/search.php?subjectnumber={int(subject)}"
    return DataFile(forms=(form,), content=frozenset(), home=home, folders=_FOLDERS, text=True)


CMU_MOTION = {
    **{f"skeleton-{subject}": _file(subject, f"{subject}.asf") for subject in SUBJECTS},
    **{trial.name: _file(trial.subject, f"{trial.name}.amc") for trial in TRIALS},
}

SETS = (
    Published(
        name="cmu-motion",
        title="CMU motion capture (50 angles)",
        terms="free for research and for use in products; not to be resold itself, in no form",
        facts=DataSpec(
            shape=(50,),
            axes=("feature",),
            support="reals",
            sizes=(4783, 598, 602),
            labels=LabelSpec(name="movement", classes=MOVEMENTS),
        ),
        folder="cmu_mocap",
        builder="vae_models.data.builders.small:cmu_motion",
        files=MappingProxyType(CMU_MOTION),
    ),
)
