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

from vae_models.data.catalogue.records import DataFile, Form

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
    """content: of the archives' PNG files, so that one packed anew is accepted too."""
    name = f"images_{part}.zip"
    form = Form(name=name, sha256=sha256, bytes=size, urls=(f"{_LAKE}/raw/master/python/{name}",))
    return DataFile(forms=(form,), content=frozenset({content}), home=_LAKE)


OMNIGLOT = {
    "chardata": DataFile(
        forms=(_CHARDATA, Form(name="omniglot_28x28_chardata_layout.mat", sha256=OMNIGLOT_CONVERSION)),
        content=frozenset(),
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


def _batch(name: str, *content: str) -> DataFile:
    """A file of the binary version as it lies in the archive's folder, plain or compressed."""
    path = f"cifar-10-batches-bin/{name}"
    forms = tuple(Form(name=path + ending, sha256=None) for ending in ("", ".xz", ".gz"))
    return DataFile(forms=forms, content=frozenset(content), home=_CIFAR_HOME)


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
        ),
        content=frozenset(),
        home=_CIFAR_HOME,
    ),
    "batch-1": _batch("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
    "batch-2": _batch("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
    "batch-3": _batch("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
    "batch-4": _batch("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
    "batch-5": _batch("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
    "test": _batch("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
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
    return DataFile(forms=(form,), content=frozenset(), home=_SVHN_HOME)


SVHN = {
    "train": _svhn("train", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182040794),
    "test": _svhn("test", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64275384),
}

_DSPRITES_HOME = "https://github.com/google-deepmind/dsprites-dataset"
_DSPRITES_NAME = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
DSPRITES = {
    "sprites": DataFile(
        forms=(Form(name=_DSPRITES_NAME, sha256=None, urls=(f"{_DSPRITES_HOME}/raw/master/{_DSPRITES_NAME}",)),),
        content=frozenset({"7da33b31b13a06f4b04a70402ce90c2e"}),
        home=_DSPRITES_HOME,
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
    )
}
