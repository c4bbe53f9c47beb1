"""Files of CelebA and of the CelebA-HQ pictures. CelebA's sums are those that TensorFlow Datasets publishes."""

from __future__ import annotations

from vae_models.data.catalogue.records import DataFile, Form

_HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def _drive(identity: str) -> tuple[str, ...]:
    """Google Drive may answer with a page about its quota instead; the sum refuses it."""
    return (
        f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t",
        f"https://drive.google.com/uc?export=download&id={identity}",
    )


_PARTITION = DataFile(
    forms=(
        Form(
            name="list_eval_partition.txt",
            sha256="fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
            bytes=2836386,
            urls=_drive("0B7EVK8r0v71pY0NSMzRuSXJEVkk"),
        ),
    ),
    content=frozenset(),
    home=_HOME,
    folder="celeba",
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
            Form(name="img_align_celeba", sha256=None),  # the folder it unpacks to
        ),
        content=frozenset(),
        home=_HOME,
    ),
    "partition": _PARTITION,
}
CELEBA_HQ = {
    "images": DataFile(  # 30,000 pictures of 512x512 and the list of what each was made from; no sum is published
        forms=(Form(name="CelebAMask-HQ.zip", sha256=None), Form(name="CelebAMask-HQ", sha256=None)),
        content=frozenset(),
        home="https://github.com/switchablenorms/CelebAMask-HQ",
    ),
    "partition": _PARTITION,
}
