"""Renders of faces and of chairs, on which VHP (Klushyn et al. 2019, appendix E) interpolates.

Chairs are published; no sum of the archive is. Faces are renders of the Basel face model (Paysan et al. 2009), whose
licence forbids passing them on: the file is that of Chen et al. 2018 ("Isolating sources of disentanglement"), which
their authors give to those who have the licence. Which renders VHP took it does not say.
"""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published, images
from vae_models.data.spec import LabelSpec

_CHAIRS_HOME = "https://www.di.ens.fr/willow/research/seeing3Dchairs/"
CHAIRS = {
    "renders": DataFile(
        forms=(
            Form(name="rendered_chairs.tar", sha256=None, urls=(f"{_CHAIRS_HOME}data/rendered_chairs.tar",)),
            Form(name="rendered_chairs", sha256=None),  # the folder it unpacks to
        ),
        content=frozenset(),
        home=_CHAIRS_HOME,
        folders=("3dchairs", "3DChairs", "seeing3Dchairs"),
    )
}

FACTORS = (50, 21, 11, 11)  # identities, azimuths, elevations, directions of light
FACES = {
    "renders": DataFile(
        forms=(Form(name="basel_face_renders.pth", sha256=None),),
        content=frozenset(),
        home="https://faces.dmi.unibas.ch/bfm/",
        folders=("3dfaces", "3DFaces", "basel_faces"),
        near=MappingProxyType({"01_MorphableModel.mat": "the model itself, of which nothing is rendered here"}),
    )
}

SETS = (
    Published(
        name="chairs",
        title="rendered chairs (64x64, grey)",
        terms="none stated by its publishers",
        facts=images((1, 64, 64), (69_092, 8_637, 8_637)),  # 8,637: the nodes of VHP's graph are a tenth of all
        folder="chairs",
        builder="vae_models.data.builders.renders:chairs",
        files=MappingProxyType(CHAIRS),
    ),
    Published(
        name="faces",
        title="renders of the Basel face model (64x64, grey, fetched by hand)",
        terms="research only, not to be passed on: the Basel face model's licence",
        facts=images(
            (1, 64, 64),
            (101_640, 12_705, 12_705),
            labels=LabelSpec(name=("identity", "azimuth", "elevation", "lighting")),
        ),
        folder="faces",
        builder="vae_models.data.builders.renders:faces",
        files=MappingProxyType(FACES),
    ),
)
