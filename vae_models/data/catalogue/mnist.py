"""Files of MNIST, Fashion-MNIST and the static binarized MNIST.

MNIST, Fashion-MNIST: the bytes whose MD5 sums the authors (and torchvision) publish. Binarized MNIST: the sums that
TensorFlow Datasets publishes for the `.amat` files.
"""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published, images
from vae_models.data.spec import LabelSpec


def _idx(
    urls: tuple[str, ...], home: str, stem: str, published: str, size: int, content: str, folder: str = "MNIST"
) -> DataFile:
    """Return one IDX file. folder: torchvision's, below which the files lie in `raw`."""
    gz = Form(name=f"{stem}.gz", sha256=published, bytes=size, urls=tuple(f"{url}{stem}.gz" for url in urls))
    plain = Form(name=stem, sha256=content)
    dotted = Form(name=stem.replace("-idx", ".idx", 1), sha256=content)  # the name inside the authors' archives
    return DataFile(
        forms=(gz, plain, dotted),
        content=frozenset({content}),
        home=home,
        folders=(f"{folder}/raw", folder, "raw"),
        near=_NEAR,
    )


_NEAR = MappingProxyType(
    {
        "mnist.npz": "Keras's copy, in numpy's format",
        "mnist.pkl.gz": "a pickle of another split, and nothing is unpickled here",
        "processed/training.pt": "torchvision's copy of old, a pickle, and nothing is unpickled here",
        "mnist_784.arff": "OpenML's copy, in another order",
        "mnist_train.csv": "a table of it; the published files are in IDX format",
    }
)


_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_MNIST_HOME = "http://yann.lecun.com/exdb/mnist/"

MNIST = {
    "train-images": _idx(
        _MNIST_URLS,
        _MNIST_HOME,
        "train-images-idx3-ubyte",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        9912422,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels": _idx(
        _MNIST_URLS,
        _MNIST_HOME,
        "train-labels-idx1-ubyte",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        28881,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "test-images": _idx(
        _MNIST_URLS,
        _MNIST_HOME,
        "t10k-images-idx3-ubyte",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        1648877,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "test-labels": _idx(
        _MNIST_URLS,
        _MNIST_HOME,
        "t10k-labels-idx1-ubyte",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        4542,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}

_FASHION_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
_FASHION_HOME = "https://github.com/zalandoresearch/fashion-mnist"

FASHION = {
    "train-images": _idx(
        _FASHION_URLS,
        _FASHION_HOME,
        "train-images-idx3-ubyte",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        26421880,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        folder="FashionMNIST",
    ),
    "train-labels": _idx(
        _FASHION_URLS,
        _FASHION_HOME,
        "train-labels-idx1-ubyte",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        29515,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        folder="FashionMNIST",
    ),
    "test-images": _idx(
        _FASHION_URLS,
        _FASHION_HOME,
        "t10k-images-idx3-ubyte",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        4422102,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        folder="FashionMNIST",
    ),
    "test-labels": _idx(
        _FASHION_URLS,
        _FASHION_HOME,
        "t10k-labels-idx1-ubyte",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        5148,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        folder="FashionMNIST",
    ),
}

_AMAT_URLS = (
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
)


def _amat(split: str, size: int, content: str, gz: str) -> DataFile:
    name = f"binarized_mnist_{split}.amat"
    plain = Form(name=name, sha256=content, bytes=size, urls=tuple(url + name for url in _AMAT_URLS))
    packed = Form(name=f"{name}.gz", sha256=gz)
    return DataFile(
        forms=(plain, packed),
        content=frozenset({content}),
        home=_AMAT_URLS[0],
        folders=("BinarizedMNIST", "BinaryMNIST"),
        text=True,
    )


BINARIZED = {
    "train": _amat(
        "train",
        78400000,
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "af247bd6075cf9adc4715459dcd5f13eaa99a2c92d8d81379a05da94770b6c0e",
    ),
    "val": _amat(
        "valid",
        15680000,
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "533b71bc0198f4d73c54ae5fe6c96fc08dc3cf1b3fae24c5521dbc0452507e38",
    ),
    "test": _amat(
        "test",
        15680000,
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        "32a3c54d03504632bf9f131b4a148c7567aa6fc87da017049b044bdc14c2a0f2",
    ),
}

SETS = (
    Published(
        name="mnist",
        title="MNIST (28x28)",
        terms="CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        facts=images((1, 28, 28), (50000, 10000, 10000), labels=LabelSpec(name="digit")),
        folder="mnist",
        builder="vae_models.data.builders.standard:mnist",
        files=MappingProxyType(MNIST),
    ),
    Published(
        name="fashion-mnist",
        title="Fashion-MNIST (28x28)",
        terms="MIT",
        facts=images((1, 28, 28), (50000, 10000, 10000), labels=LabelSpec(name="class")),
        folder="fashion_mnist",
        builder="vae_models.data.builders.standard:mnist",
        files=MappingProxyType(FASHION),
    ),
    Published(
        name="binarized-mnist",
        title="static binarized MNIST (28x28)",
        terms="none stated for the binarization; MNIST itself is under CC BY-SA 3.0",
        facts=images((1, 28, 28), (50000, 10000, 10000), support="bits"),
        folder="binarized_mnist",
        builder="vae_models.data.builders.standard:binarized",
        files=MappingProxyType(BINARIZED),
    ),
)
