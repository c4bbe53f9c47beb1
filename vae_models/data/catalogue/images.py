"""Files of the other image sets.

Sums are those that TensorFlow Datasets publishes (SHA-256: Omniglot's archives, CIFAR-10's archive, SVHN, CelebA), or
MD5 sums in general circulation (CIFAR-10's single batches, dSprites). None is published for `chardata.mat`, Frey Faces
and the silhouettes: their layout, counts and values are checked instead.

Omniglot has two known contents. `chardata.mat` is the file of the IWAE authors (24,345 + 8,070 images). The 105x105
originals, reduced to 28x28 by a box filter (24,345 + 8,115 images: drawings 16-20 of every character are the test set),
are read either from the published archives or from a conversion of them into the layout of `chardata.mat`, to the same
bytes. Likelihoods on the two contents are not comparable.
"""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published, images
from vae_models.data.spec import LabelSpec

OMNIGLOT_CONVERSION = "83a2b33668833b7d7e892cb072766774b6df300dfad7ba945d31ca4eca98657c"
_CHARDATA = Form(
    name="chardata.mat",
    sha256=None,
    urls=(
        "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
        "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
    ),
)
_LAKE = "https://github.com/brendenlake/omniglot"


def _archive(part: str, sha256: str, size: int, content: str) -> DataFile:
    """Return the file of one Omniglot archive.
    content: sum of its PNG files, so that one packed anew is accepted too.
    """
    name = f"images_{part}.zip"
    packed = Form(name=name, sha256=sha256, bytes=size, urls=(f"{_LAKE}/raw/master/python/{name}",))
    unpacked = Form(name=f"images_{part}", sha256=None, unpacked=True)
    return DataFile(
        forms=(packed, unpacked),
        content=frozenset({content}),
        home=_LAKE,
        folders=("omniglot-py", "omniglot/python", "Omniglot", "python"),
    )


OMNIGLOT = {
    "chardata": DataFile(
        forms=(_CHARDATA, Form(name="omniglot_28x28_chardata_layout.mat", sha256=OMNIGLOT_CONVERSION)),
        content=frozenset(),
        folders=("OMNIGLOT", "Omniglot"),
        home="https://github.com/yburda/iwae/tree/master/datasets/OMNIGLOT",
    ),
    "background": _archive(
        "background",
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        9464212,
        "cf1a6cbcdbecf5c37d4f6aba9dbcf04dc45e5eec6a75f15594c1d25b6534e8cf",
    ),
    "evaluation": _archive(
        "evaluation",
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        6462886,
        "cda6915567cdc792bbef828ec7e3396dc47e172ed8beda1fce519a79bc388d9f",
    ),
}

_CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


def _batch(name: str, binary: str, python: str | None = None) -> DataFile:
    """Return a file of the binary version as in the archive's folder, plain or compressed, or of the Python version.

    binary, python: their contents' sums. The two hold the same records, in the same order.
    """
    path = f"cifar-10-batches-bin/{name}"
    forms = tuple(Form(name=path + ending, sha256=None) for ending in ("", ".xz", ".gz"))
    if python is not None:
        forms = (*forms, Form(name=f"cifar-10-batches-py/{name.removesuffix('.bin')}", sha256=None))
    content = frozenset(sum_ for sum_ in (binary, python) if sum_)
    return DataFile(forms=forms, content=content, home=_CIFAR_HOME, folders=_CIFAR_FOLDERS, near=_CIFAR_NEAR)


_CIFAR_FOLDERS = ("CIFAR10", "cifar-10")
_CIFAR_NEAR = MappingProxyType(
    {
        "cifar-100-python": "CIFAR-100",
        "cifar-100-python.tar.gz": "CIFAR-100",
        "cifar-100-binary": "CIFAR-100",
        "cifar-100-binary.tar.gz": "CIFAR-100",
        "cifar-10-matlab.tar.gz": "the MATLAB version, which is not read",
        "cifar-10-batches-mat": "the MATLAB version, which is not read",
    }
)


CIFAR_BATCHES = ("batch-1", "batch-2", "batch-3", "batch-4", "batch-5", "test")
CIFAR10 = {
    "archive": DataFile(
        forms=(
            Form(
                name="cifar-10-binary.tar.gz",
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                bytes=170052171,
                urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            ),
            Form(
                name="cifar-10-python.tar.gz",
                sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                bytes=170498071,
            ),
        ),
        content=frozenset(),
        home=_CIFAR_HOME,
        folders=_CIFAR_FOLDERS,
        near=_CIFAR_NEAR,
    ),
    "batch-1": _batch("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25", "c99cafc152244af753f735de768cd75f"),
    "batch-2": _batch("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692", "d4bba439e000b95fd0a9bffe97cbabec"),
    "batch-3": _batch("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421", "54ebc095f3ab1f0389bbae665268c751"),
    "batch-4": _batch("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb", "634d18415352ddfa80567beed471001a"),
    "batch-5": _batch("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d", "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test": _batch("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d", "40351d587109b95175f43aff81a1287e"),
}
CIFAR10_SUBSET = {
    **CIFAR10,
    # the first 1,000 records of test_batch.bin; the sum is of a copy that agrees with two others
    "test-1000": _batch("test_batch_first1000.bin", "8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5"),
}

_SVHN_HOME = "http://ufldl.stanford.edu/housenumbers/"


def _svhn(part: str, sha256: str, size: int) -> DataFile:
    name = f"{part}_32x32.mat"
    form = Form(name=name, sha256=sha256, bytes=size, urls=(_SVHN_HOME + name,))
    return DataFile(
        forms=(form,),
        content=frozenset(),
        home=_SVHN_HOME,
        folders=("SVHN",),
        near=MappingProxyType({"extra_32x32.mat": "the extra digits", f"{part}.tar.gz": "the digits before cropping"}),
    )


SVHN = {
    "train": _svhn("train", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182040794),
    "test": _svhn("test", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64275384),
}

_DSPRITES_HOME = "https://github.com/google-deepmind/dsprites-dataset"
_DSPRITES_NAME = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
DSPRITES = {
    "sprites": DataFile(
        forms=(
            Form(name=_DSPRITES_NAME, sha256=None, urls=(f"{_DSPRITES_HOME}/raw/master/{_DSPRITES_NAME}",)),
            Form(name="dsprites.npz", sha256=None),
        ),
        content=frozenset({"7da33b31b13a06f4b04a70402ce90c2e"}),
        home=_DSPRITES_HOME,
        folders=("dsprites-dataset", "dSprites"),
        near=MappingProxyType(
            {
                _DSPRITES_NAME.replace(
                    ".npz", ".hdf5"
                ): "the HDF5 version, which is not read; the .npz has the same images"
            }
        ),
    )
}

FREY_FACES = {
    "faces": DataFile(
        forms=(
            Form(
                name="frey_rawface.mat",
                sha256=None,
                urls=(
                    "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
                    "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat",
                ),
            ),
        ),
        content=frozenset(),
        home="https://cs.nyu.edu/~roweis/data.html",
        folders=("FreyFaces", "freyfaces"),
        near=MappingProxyType({"freyfaces.pkl": "a pickle of it, and nothing is unpickled here"}),
    )
}
_MARLIN = "https://people.cs.umass.edu/~marlin/data"
SILHOUETTES = {
    "split1": DataFile(
        forms=(
            Form(
                name="caltech101_silhouettes_28_split1.mat",
                sha256=None,
                urls=(f"{_MARLIN}/caltech101_silhouettes_28_split1.mat",),
            ),
        ),
        content=frozenset(),
        home=f"{_MARLIN}.shtml",
        folders=("Caltech101Silhouettes", "caltech_silhouettes"),
        near=MappingProxyType(
            {
                "caltech101_silhouettes_28.mat": "the images without the published split",
                "caltech101_silhouettes_16_split1.mat": "the images at 16 x 16 pixels",
            }
        ),
    )
}

SETS = (
    Published(
        name="omniglot",
        title="Omniglot (28x28)",
        terms="MIT",
        facts=images((1, 28, 28), (23000, 1345, 8070), labels=LabelSpec(name="alphabet")),
        folder="omniglot",
        builder="vae_models.data.builders.standard:omniglot",
        files=MappingProxyType(OMNIGLOT),
        alternatives=(("chardata",), ("background", "evaluation")),
    ),
    Published(
        name="cifar10",
        title="CIFAR-10 (3x32x32)",
        terms="none stated by its publishers",
        facts=images((3, 32, 32), (40000, 10000, 10000), labels=LabelSpec(name="class")),
        folder="cifar10",
        builder="vae_models.data.builders.standard:cifar10",
        files=MappingProxyType(CIFAR10),
        alternatives=(("archive",), CIFAR_BATCHES),
    ),
    Published(
        name="cifar10-subset",
        title="the first 10,000 images of CIFAR-10 (3x32x32)",
        terms="none stated by its publishers",
        facts=images((3, 32, 32), (9000, 1000, 1000), labels=LabelSpec(name="class")),
        folder="cifar10",
        builder="vae_models.data.builders.standard:cifar10_subset",
        files=MappingProxyType(CIFAR10_SUBSET),
        alternatives=(("archive",), ("batch-1", "test"), ("batch-1", "test-1000")),
    ),
    Published(
        name="svhn",
        title="SVHN (3x32x32)",
        terms="non-commercial use only",
        facts=images((3, 32, 32), (63257, 10000, 26032), labels=LabelSpec(name="digit")),
        folder="svhn",
        builder="vae_models.data.builders.standard:svhn",
        files=MappingProxyType(SVHN),
    ),
    Published(
        name="svhn-28",
        title="SVHN cropped to 3x28x28",
        terms="non-commercial use only",
        facts=images((3, 28, 28), (63257, 10000, 26032), labels=LabelSpec(name="digit")),
        folder="svhn",
        builder="vae_models.data.builders.standard:svhn",
        files=MappingProxyType(SVHN),
    ),
    Published(
        name="dsprites",
        title="dSprites (64x64)",
        terms="Apache-2.0",
        facts=images(
            (1, 64, 64),
            (717280, 10000, 10000),
            support="bits",
            labels=LabelSpec(name=("shape", "scale", "orientation", "x", "y")),
        ),
        folder="dsprites",
        builder="vae_models.data.builders.standard:dsprites",
        files=MappingProxyType(DSPRITES),
    ),
    Published(
        name="frey-faces",
        title="Frey faces (28x20)",
        terms="none stated by its publishers",
        facts=images((1, 28, 20), (1565, 200, 200)),
        folder="frey_faces",
        builder="vae_models.data.builders.small:frey_faces",
        files=MappingProxyType(FREY_FACES),
    ),
    Published(
        name="caltech-silhouettes",
        title="Caltech 101 silhouettes (28x28)",
        terms="none stated by its publishers",
        facts=images((1, 28, 28), (4100, 2264, 2307), support="bits", labels=LabelSpec(name="class")),
        folder="caltech101_silhouettes",
        builder="vae_models.data.builders.small:silhouettes",
        files=MappingProxyType(SILHOUETTES),
    ),
)
