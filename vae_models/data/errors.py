"""What can be wrong with data.

DataError
├── DataMissing    a file is nowhere to be found, and could not be downloaded
├── DataCorrupt    a file is there, but its bytes are not the published ones
├── DataRefused    a source to be added is of no supported kind, or broken, or ambiguous
└── DataUnfit      values that x cannot be under this configuration: not finite, out of range, of another shape
"""

from __future__ import annotations


class DataError(Exception):
    """Root: also raised as it is when the cache directory cannot be written."""


class DataMissing(DataError):  # noqa: N818 - says what is the case
    pass


class DataCorrupt(DataError):  # noqa: N818 - says what is the case
    pass


class DataRefused(DataError):  # noqa: N818 - says what is the case
    pass


class DataUnfit(DataError):  # noqa: N818 - says what is the case
    pass
