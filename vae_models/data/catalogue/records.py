"""The files of a published data set: the forms in which they go round, their checksums and their addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Converter = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form in which a file is published: its name, its checksum (None: none is published) and its addresses.

    A name that ends in .gz or .xz is decompressed before it is read; a name may begin with a folder.

    published: of a form that says the same in another way (a table with commas), the published file's content;
               ValueError where it does not. Its sums are those of that content
    unpacked:  it is the folder that an archive unpacks to: its pictures are read as if they were in the archive
    """

    name: str
    sha256: str | None
    bytes: int | None = None
    urls: tuple[str, ...] = ()
    published: Converter | None = None
    unpacked: bool = False


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of a data set. `forms` are looked for in order; the first with addresses is what is downloaded.

    content: checksums of the decompressed content that are accepted (SHA-256, or MD5 where only that is published; of a
             zip, `sums.archive_sum`); empty when none is published
    home:    where a person can read about the file
    folder:  where it lies when that is not the data set's own folder
    folders: where other tools put it, below VAESVC_DATA_DIR: looked through after the set's own folder
    text:    lines that end in LF or CRLF are the same to it, and so are a byte order mark and empty lines at the end
    near:    names that are easily taken for this file, and what they are
    """

    forms: tuple[Form, ...]
    content: frozenset[str]
    home: str
    folder: str | None = None
    folders: tuple[str, ...] = ()
    text: bool = False
    near: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.forms[0].name

    @property
    def download(self) -> Form | None:
        """Return the form that is downloaded when the file is not found; None: it has to be brought by hand."""
        return next((form for form in self.forms if form.urls), None)
