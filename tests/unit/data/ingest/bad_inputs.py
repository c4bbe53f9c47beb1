"""What people also have: broken, dangerous or unclear. Each with what is said of it."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image
from safetensors.numpy import save_file

from tests.unit.data.ingest.cases import Bad, Make, chunk, raw_png
from tests.unit.data.ingest.good_arrays import IMAGES, npy, npz
from tests.unit.data.ingest.good_others import png_bytes, text_file
from vae_models.data.ingest import Options

PICTURE = np.arange(24, dtype=np.uint8).reshape(4, 6)
PNG = png_bytes(PICTURE)


def beside_good_ones(name: str, content: bytes) -> Make:
    """Four pictures, and one file that is none."""

    def make(folder: Path) -> None:
        for at in range(4):
            (folder / f"good {at}.png").write_bytes(PNG)
        (folder / name).write_bytes(content)

    return make


def huge() -> bytes:
    """A head that says 100,000 x 100,000 pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def long_line(folder: Path) -> None:
    beside_good_ones("x.txt", b"")(folder)
    raw_png(folder / "long.png", 70_000, 1, 8, 0, bytes(70_000))


def many_broken(folder: Path) -> None:
    for at in range(25):
        (folder / f"{at:02}.png").write_bytes(PNG[: 40 if at >= 3 else None])


def tiff(mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (6, 4), 70_000 if mode == "I" else 0.5).save(file, "TIFF")
    return file.getvalue()


def two_sizes(folder: Path) -> None:
    for at, (height, width) in enumerate(((4, 6), (4, 6), (4, 6), (5, 6))):
        Image.new("L", (width, height)).save(folder / f"{at}.png")


def zipped(*members: tuple[str, bytes], **how: Any) -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.zip", "w") as archive:
            for name, content in members:
                info = zipfile.ZipInfo(name)
                info.external_attr = how.get("attributes", 0o100644 << 16)
                archive.writestr(info, content)
        return folder / "a.zip"

    return make


def encrypted(folder: Path) -> Path:
    path = zipped(("a.png", PNG))(folder)
    assert path is not None
    content = bytearray(path.read_bytes())
    content[6] |= 1  # of the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # of the directory
    path.write_bytes(content)
    return path


def overlapping(folder: Path) -> Path:
    """The directory names one member many times, as the bombs do that explode without nesting."""
    path = zipped(("a.png", PNG * 100))(folder)
    assert path is not None
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, 50 * len(entry), start, 0)
    path.write_bytes(content[:start] + entry * 50 + tail)
    return path


def exploding(folder: Path) -> Path:
    """A member that says 300 MiB in 1 MB, as a bomb does."""
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.png", b"\0" * 1000)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<L", 0xFFFFFFFE)  # 4 GiB, unpacked
    path.write_bytes(content)
    return path


def tarred(name: str, kind: bytes, target: str = "") -> Make:
    def make(folder: Path) -> Path:
        with tarfile.open(folder / "a.tar", "w") as archive:
            for at in range(3):
                member = tarfile.TarInfo(f"good {at}.png")
                member.size = len(PNG)
                archive.addfile(member, io.BytesIO(PNG))
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        return folder / "a.tar"

    return make


def giant_header(folder: Path) -> Path:
    """A name of 3 MB, which tarfile takes into memory: 3 kB packed, and it may as well be 8 GB."""
    with tarfile.open(folder / "a.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("x" * 3_000_000 + ".png"))
    return folder / "a.tar.gz"


def boasting(folder: Path) -> Path:
    """A member that says 100 GB; the archive has a few hundred bytes."""
    member = tarfile.TarInfo("a.png")
    member.size = 10**11
    with gzip.open(folder / "a.tar.gz", "wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
    return folder / "a.tar.gz"


def cut(make: Make, to: int | float) -> Make:
    """What `make` makes, truncated."""

    def shorter(folder: Path) -> Path:
        path = make(folder)
        assert path is not None
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * to) if isinstance(to, float) else to])
        return path

    return shorter


def tar_gz(folder: Path) -> Path:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for at in range(20):
            member = tarfile.TarInfo(f"{at}.png")
            content = os.urandom(2000)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder / "a.tar.gz"


def objects(folder: Path) -> Path:
    np.save(folder / "x.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    return folder / "x.npy"


def not_finite() -> np.ndarray[Any, Any]:
    values = np.zeros((10, 4))
    values[3, 2], values[7, 1] = np.nan, np.inf
    return values


def elsewhere(folder: Path) -> Path:
    """HDF5 whose numbers lie in another file of the machine."""
    with h5py.File(folder / "x.h5", "w") as file:
        external = [("/etc/passwd", 0, 800)]
        file.create_dataset("x", (100, 8), dtype="u1", external=external)
    return folder / "x.h5"


def structs(folder: Path) -> Path:
    scipy.io.savemat(folder / "x.mat", {"meta": {"a": 1}})
    return folder / "x.mat"


def matlab_wide(folder: Path) -> Path:
    scipy.io.savemat(folder / "x.mat", {"X": np.zeros((5, 6, 10), np.uint8)})
    return folder / "x.mat"


def h5(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = IMAGES
    return folder / "x.h5"


def documents(folder: Path) -> None:
    (folder / "x.doc").write_bytes(b"")


def missing_in_parquet(folder: Path) -> Path:
    pq.write_table(pa.table({"a": [1.0, 2.0, None, 4.0], "b": [1, 2, 3, 4]}), folder / "t.parquet")
    return folder / "t.parquet"


def pictures_missing(folder: Path) -> Path:
    pq.write_table(pa.table({"image": [PNG, None, PNG, b"x", PNG]}), folder / "t.parquet")
    return folder / "t.parquet"


def bfloat(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file as save

    save({"x": torch.zeros(4, 4, dtype=torch.bfloat16)}, str(folder / "x.safetensors"))
    return folder / "x.safetensors"


def safe(folder: Path) -> Path:
    save_file({"x": IMAGES}, folder / "x.safetensors")
    return folder / "x.safetensors"


def listed(content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / "pictures").mkdir()
        for at in range(4):
            (folder / "pictures" / f"{at}.png").write_bytes(PNG)
        (folder / "list.csv").write_bytes(content)
        return folder / "pictures"

    return make


def nowhere(folder: Path) -> Path:
    os.symlink(folder / "gone", folder / "link")
    return folder / "link"


def dangling(folder: Path) -> None:
    beside_good_ones("x.txt", b"")(folder)
    os.symlink(folder / "gone.png", folder / "link.png")


def mixed_folders(folder: Path) -> None:
    for name in ("train/a", "test/a", "extra/a"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.png").write_bytes(PNG)


def films(*sizes: tuple[int, int]) -> Make:
    def make(folder: Path) -> None:
        for at, (height, width) in enumerate(sizes):
            (folder / f"{at}").mkdir()
            for number in range(2):
                Image.new("L", (width, height)).save(folder / f"{at}" / f"{number}.png")

    return make


def no_film(folder: Path) -> None:
    for at in range(3):
        with av.open(str(folder / f"{at}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")))
            container.mux(stream.encode())
    (folder / "3.mp4").write_bytes(b"not a film")


LIST = Options(split_file=Path("list.csv"))
CASES = [
    Bad(
        name="png cut off",
        make=beside_good_ones("bad.png", PNG[:45]),
        said=("1 of 5 files", "bad.png: ", "--skip-broken"),
    ),
    Bad(name="an empty file", make=beside_good_ones("bad.png", b""), said=("bad.png: it is empty",)),
    Bad(name="no picture", make=beside_good_ones("bad.jpg", b"hello"), said=("bad.jpg: it is no picture of a format",)),
    Bad(name="25 broken ones", make=many_broken, said=("22 of 25 files", "  12.png: ", "and 12 more")),
    Bad(name="a bomb of pixels", make=beside_good_ones("b.png", huge()), said=("b.png: it has more than 89,478,485",)),
    Bad(name="a line too long", make=long_line, said=("long.png: it has 1x70000 pixels; at most 65,535",)),
    Bad(name="tiff of 32 bits", make=beside_good_ones("b.tif", tiff("I")), said=("b.tif: its pixels have 32 bits",)),
    Bad(
        name="tiff of floats",
        make=beside_good_ones("b.tif", tiff("F")),
        said=("mode F", "save it in 8 bits, or as .npy"),
    ),
    Bad(
        name="sizes that differ",
        make=two_sizes,
        said=("2 sizes (height x width)", "4x6: 3, for example 0.png", "5x6: 1, for example 3.png", "--size 64"),
    ),
    Bad(
        name="a crop larger than the pictures",
        make=beside_good_ones("x.txt", b""),
        options=Options(crop=(5, 5)),
        said=("it is 4x6, smaller than the crop of 5x5",),
    ),
    Bad(name="zip with ..", make=zipped(("../../a.png", PNG)), said=("../../a.png: its name has", "below one folder")),
    Bad(name="zip with a root", make=zipped(("/etc/a.png", PNG)), said=("its name is absolute",)),
    Bad(name="zip with a drive", make=zipped(("C:\\a.png", PNG)), said=("its name is absolute",)),
    Bad(
        name="zip with a link",
        make=zipped(("a.png", b"/etc/passwd"), attributes=0o120777 << 16),
        said=("a.png: it is a link",),
    ),
    Bad(name="zip with a password", make=encrypted, said=("it is encrypted",)),
    Bad(name="zip of overlapping members", make=overlapping, said=("members that overlap",)),
    Bad(name="zip that explodes", make=exploding, said=("unpacks to more than 1,073,741,824 bytes", "over 200 times")),
    Bad(name="zip cut off", make=cut(zipped(("a.png", PNG)), 0.6), said=("no readable zip archive",)),
    Bad(name="no zip", make=text_file("a.zip", b"hello"), said=("no readable zip archive",)),
    Bad(name="tar with a link", make=tarred("l.png", tarfile.SYMTYPE, "/etc/passwd"), said=("l.png: it is a link",)),
    Bad(name="tar with a hard link", make=tarred("l.png", tarfile.LNKTYPE, "good 0.png"), said=("--hard-dereference",)),
    Bad(name="tar with a device", make=tarred("d.png", tarfile.CHRTYPE), said=("d.png: it is a device or a pipe",)),
    Bad(name="tar with ..", make=tarred("../x.png", tarfile.REGTYPE), said=("its name has",)),
    Bad(name="tar with a giant header", make=giant_header, said=("a header of 3,000,005 bytes",)),
    Bad(name="tar.gz that explodes", make=boasting, said=("unpacks to more than 1,073,741,824 bytes",)),
    Bad(name="videos in an archive", make=tar_gz, options=Options(kind="video"), said=("is an archive", "Unpack it")),
    Bad(name="tar.gz cut off", make=cut(tar_gz, 0.5), said=("no readable tar archive",)),
    Bad(name="no tar", make=text_file("a.tar", b"hello" * 300), said=("no readable tar archive",)),
    Bad(name="a folder of nothing", make=lambda folder: None, said=("holds no files",)),
    Bad(name="a document", make=text_file("x.doc", b""), said=("nothing that is taken",)),
    Bad(name="a folder of other files", make=documents, said=("holds no pictures among its 1 files (x.doc)",)),
    Bad(name="folders of splits and others", make=mixed_folders, said=("1 files beside them: extra/a/x.png",)),
    Bad(name="a link to nothing", make=nowhere, said=("does not exist: it is a link to nothing",)),
    Bad(name="a linked picture that is gone", make=dangling, said=("link.png: a link to nothing",)),
    Bad(name="nothing there", make=lambda folder: folder / "no", said=("does not exist",)),
    Bad(name="one picture", make=text_file("a.png", PNG), said=("is one picture: give the folder",)),
    Bad(name="a pickle", make=text_file("x.pkl", b"cos\nsystem\n"), said=("runs the code in it",)),
    Bad(name="npy of objects", make=objects, said=("Python objects", "unpickled")),
    Bad(name="npy cut off", make=cut(npy(IMAGES), 0.7), said=("is truncated",)),
    Bad(name="npy of NaN", make=npy(not_finite()), said=("nan at [3, 2]", "2 such values in all, in 2 of 10 data")),
    Bad(name="npy of complex", make=npy(np.zeros((4, 3), complex)), said=("complex numbers",)),
    Bad(name="npy of texts", make=npy(np.array([["a", "b"]] * 4)), said=("holds texts",)),
    Bad(name="npy of one dimension", make=npy(np.zeros(9)), said=("has one dimension",)),
    Bad(
        name="npy that may be NCHW or NHWC",
        make=npy(np.full((5, 3, 32, 3), 9, np.uint8)),
        said=("NCHW (channel 3 x height 32 x width 3: --axes NCHW)", "NHWC (height 3 x width 32 x channel 3"),
    ),
    Bad(name="npy neither", make=npy(np.zeros((5, 7, 8, 9), np.uint8)), said=("--axes NCHW", "--axes NHWC")),
    Bad(name="wrong --axes", make=npy(IMAGES), options=Options(axes="NXY"), said=("--axes NXY: letters of N data",)),
    Bad(name="too few --axes", make=npy(IMAGES), options=Options(axes="NF"), said=("names 1 dimensions",)),
    Bad(name="zeros and ones", make=npy(IMAGES // 255), said=("--scale bits if they are bits",)),
    Bad(
        name="floats to 255",
        make=npy(IMAGES + 0.5),
        said=("reaches from 0.5 to 255.5", "--scale reals keeps the values"),
    ),
    Bad(name="no bits", make=npy(IMAGES), options=Options(scale="bits"), said=("--scale bits is for only 0 and 1",)),
    Bad(name="beyond float32", make=npy(np.full((5, 2), 1e300)), said=("beyond float32",)),
    Bad(name="npz of two", make=npz(np.savez, a=IMAGES, b=IMAGES), said=("say which with --key", "a uint8 [10, 5, 6]")),
    Bad(name="npz, no such key", make=npz(np.savez, a=IMAGES), options=Options(key="z"), said=("has no array 'z'",)),
    Bad(
        name="npz, labels of another number",
        make=npz(np.savez, x=IMAGES, kind=np.arange(9)),
        options=Options(label="kind"),
        said=("10 data, and 9 labels in 'kind'",),
    ),
    Bad(name="npz cut off", make=cut(npz(np.savez, x=IMAGES), 0.8), said=("no readable .npz",)),
    Bad(name="mat of structs", make=structs, said=("no arrays of numbers: meta (struct)",)),
    Bad(name="mat that may be either", make=matlab_wide, said=("as MATLAB mostly has them", "HWN")),
    Bad(name="h5 in another file", make=elsewhere, said=("x lies in other files",)),
    Bad(name="h5 cut off", make=cut(h5, 0.5), said=("no readable HDF5 file",)),
    Bad(name="safetensors cut off", make=cut(safe, 0.5), said=("no readable .safetensors",)),
    Bad(name="safetensors of bfloat16", make=bfloat, said=("x is BF16", "save it as F32")),
    Bad(name="parquet with a gap", make=missing_in_parquet, said=("row 2 has no value in the column 'a'",)),
    Bad(name="parquet cut off", make=cut(missing_in_parquet, 0.5), said=("no readable table",)),
    Bad(name="parquet of pictures with gaps", make=pictures_missing, said=("2 of 5", "row 1: it is empty", "row 3: ")),
    Bad(name="csv with a gap", make=text_file("t.csv", b"a,b\n1,2\n3,\n5,6\n7,8\n"), said=("row 1", "column 'b'")),
    Bad(
        name="csv with infinity",
        make=text_file("t.csv", b"a\n1\ninf\n3\n4\n"),
        said=("row 1 has inf in the column 'a'",),
    ),
    Bad(
        name="csv, ragged", make=text_file("t.csv", b"a,b\n1,2\n3\n"), said=("no readable table", "Expected 2 columns")
    ),
    Bad(
        name="csv in latin-1", make=text_file("t.csv", "a,\xe9\n1,2\n".encode("latin-1")), said=("no UTF-8 at byte 2",)
    ),
    Bad(name="csv of names", make=text_file("t.csv", b"a,b\nx,y\n"), said=("no numeric columns: a string, b string",)),
    Bad(name="csv, two of one name", make=text_file("t.csv", b"a,a\n1,2\n"), said=("has two columns of one name: a",)),
    Bad(
        name="csv, no such label",
        make=text_file("t.csv", b"a\n1\n"),
        options=Options(label="z"),
        said=("no column 'z'",),
    ),
    Bad(name="csv, empty", make=text_file("t.csv", b""), said=("is empty",)),
    Bad(name="csv of a byte order mark", make=text_file("t.csv", b"\xef\xbb\xbf"), said=("is empty",)),
    Bad(name="csv, only a header", make=text_file("t.csv", b"a,b\n"), said=("has no rows",)),
    Bad(name="text in latin-1", make=text_file("t.txt", b"abc\n\xe9t\xe9\n"), said=("line 2 is no UTF-8 at byte 0",)),
    Bad(name="text with zeros", make=text_file("t.txt", b"abc\n\0\n"), said=("line 2 has a zero byte",)),
    Bad(
        name="text of one line",
        make=text_file("t.txt", b"x" * 2_000_000),
        said=("line 1 has more than 1,048,576 bytes",),
    ),
    Bad(name="text of nothing", make=text_file("t.txt", b"\n\n"), said=("has no sentences",)),
    Bad(
        name="two data", make=text_file("t.txt", b"a\nb\n"), said=("there are 2 data, and each of train, val and test",)
    ),
    Bad(
        name="a list of others",
        make=listed(b"9.png,train\n0.png,val\n"),
        options=LIST,
        said=("names 1 data that there are not: 9.png",),
    ),
    Bad(
        name="a list with gaps",
        make=listed(b"0.png,train\n1.png,val\n"),
        options=LIST,
        said=("no line for 2 data: 2.png, 3.png",),
    ),
    Bad(
        name="a list of nothing",
        make=listed(b"0.png,train\n1.png,somewhere\n"),
        options=LIST,
        said=("line 2", "no `name,split`"),
    ),
    Bad(
        name="a list that contradicts",
        make=listed(b"0.png,train\n0.png,val\n"),
        options=LIST,
        said=("line 2", "another split before"),
    ),
    Bad(name="a list in UTF-16", make=listed("0.png,train\n".encode("utf-16")), options=LIST, said=("no UTF-8",)),
    Bad(
        name="videos of two sizes",
        make=films((4, 6), (4, 6), (5, 6)),
        options=Options(kind="video"),
        said=("2 sizes", "2, for example 0", "5x6: 1"),
    ),
    Bad(name="one video", make=text_file("a.mp4", b"x"), said=("is one video",)),
    Bad(name="no video", make=no_film, said=("1 of 4 files", "3.mp4: it cannot be decoded")),
    Bad(
        name="frames without folders",
        make=beside_good_ones("x.png", PNG),
        options=Options(kind="video"),
        said=("holds no videos",),
    ),
]
