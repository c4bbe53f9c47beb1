"""Files of CelebA and of the CelebA-HQ pictures. CelebA's sums are those that TensorFlow Datasets publishes."""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published, images

_HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def _drive(identity: str) -> tuple[str, ...]:
    """Return Google Drive's addresses of a file;
    it may answer with a page about its quota, which the checksum refuses.
    """
    return (
        f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t",
        f"https://drive.google.com/uc?export=download&id={identity}",
    )


def _from_table(content: bytes) -> bytes:
    """Convert Kaggle's `list_eval_partition.csv`: a line of titles, and commas where the published list has spaces."""
    title, _, rows = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if title.strip() != b"image_id,partition":
        raise ValueError(f"its first line is {title[:40]!r}, expected image_id,partition")
    return rows.replace(b",", b" ")


_PARTITION_SHA256 = "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"  # its lines end in CRLF
# the authors' own folders, and Kaggle's
_FOLDERS = ("celeba/Eval", "CelebA/Eval", "Eval", "CelebA", "celeba-dataset", "archive")
_PARTITION = DataFile(
    forms=(
        Form(
            name="list_eval_partition.txt",
            sha256=_PARTITION_SHA256,
            bytes=2836386,
            urls=_drive("0B7EVK8r0v71pY0NSMzRuSXJEVkk"),
        ),
        Form(name="list_eval_partition.csv", sha256=None, published=_from_table),
    ),
    content=frozenset({_PARTITION_SHA256}),
    home=_HOME,
    folder="celeba",
    folders=_FOLDERS,
    text=True,
    near=MappingProxyType({"list_attr_celeba.txt": "the attributes", "list_bbox_celeba.txt": "the bounding boxes"}),
)
CELEBA = {
    "images": DataFile(
        forms=(
            Form(
                name="img_align_celeba.zip",
                sha256="46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
                bytes=1443490838,
                urls=_drive("0B7EVK8r0v71pZjFTYXZWM3FlRnM"),
            ),
            Form(name="img_align_celeba/img_align_celeba", sha256=None),  # the folder Kaggle's archive unpacks to
            Form(name="img_align_celeba", sha256=None),  # the folder it unpacks to
        ),
        content=frozenset(),
        home=_HOME,
        folders=("celeba/Img", "CelebA/Img", "Img", "CelebA", "celeba-dataset", "archive"),
        near=MappingProxyType(
            {
                "img_celeba": "the pictures before they were aligned",
                "img_celeba.7z": "the pictures before they were aligned",
                "img_align_celeba_png": "the pictures as PNG files; those of the JPEG files are other numbers",
                "celeba-dataset.zip": "Kaggle's archive: unpack it there",
                "archive.zip": "perhaps Kaggle's archive: unpack it there",
            }
        ),
    ),
    "partition": _PARTITION,
}
CELEBA_HQ = {
    "images": DataFile(  # 30,000 pictures of 512x512 and the list of what each was made from; no sum is published
        forms=(Form(name="CelebAMask-HQ.zip", sha256=None), Form(name="CelebAMask-HQ", sha256=None)),
        content=frozenset(),
        home="https://github.com/switchablenorms/CelebAMask-HQ",
        folders=("CelebAMask-HQ", "celebamask-hq"),
    ),
    "partition": _PARTITION,
}

SETS = (
    Published(
        name="celeba",
        title="CelebA (3x64x64)",
        terms="non-commercial research only",
        facts=images((3, 64, 64), (162770, 19867, 19962)),
        folder="celeba",
        builder="vae_models.data.builders.faces:celeba",
        files=MappingProxyType(CELEBA),
    ),
    Published(
        name="celeba-hq",
        title="CelebAMask-HQ (3x128x128, fetched by hand)",
        terms="non-commercial research and education only",
        facts=images((3, 128, 128), (24183, 2993, 2824)),
        folder="celeba_hq",
        builder="vae_models.data.builders.faces:celeba_hq",
        files=MappingProxyType(CELEBA_HQ),
    ),
)
