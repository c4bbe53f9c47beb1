"""The published weights of the FID's Inception, as a file."""

from __future__ import annotations

from vae_models.data.catalogue.records import DataFile, Form

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILE = DataFile(
    forms=(
        Form(
            name="pt_inception-2015-12-05-6726825d.pth",
            sha256=SHA256,
            bytes=95_628_359,
            urls=(
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
            ),
        ),
    ),
    content=frozenset(),
    home="https://github.com/mseitzer/pytorch-fid/releases",
)
