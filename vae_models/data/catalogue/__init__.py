"""The published data sets: their sizes, their files, the files' checksums, and where they are published.

Each module has `SETS`, sources of the seam `data-source` (`vae_models.data.sources`). Nothing here imports torch or
numpy, so specs can be checked against it at once.

Checksums are of the file as published (SHA-256) and of its decompressed content: a file is accepted when either agrees,
so it makes no difference who compressed it. Where none is published there is none here: such a file is checked by its
layout and counts, and the sum of the copy in the cache is kept beside it and must agree from then on.
"""
