"""Tables, text and videos as people have them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.unit.data.ingest.cases import Good, Make, everything
from tests.unit.data.ingest.good_arrays import COUNT, IMAGES, LABELS, PIXELS, SIZES, VECTORS, G, in_order, npy
from vae_models.data.ingest import Options
from vae_models.data.stored import StoredSet


def text_file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def frame() -> dict[str, Any]:
    return {
        "a": VECTORS[:, 0],
        "b": VECTORS[:, 1].astype(np.float32),
        "whole": np.arange(COUNT),
        "same": np.full(COUNT, 0.1),
        "truth": np.arange(COUNT) % 2 == 0,
        "name": [f"n{at}" for at in range(COUNT)],
        "label": np.array(["cat", "dog", "cow"])[LABELS],
    }


def parquet(folder: Path) -> Path:
    pq.write_table(pa.table(frame()), folder / "t.parquet", row_group_size=3)
    return folder / "t.parquet"


def csv_of(separator: str = ",", newline: str = "\n", header: bool = True, bom: bool = False) -> bytes:
    lines = [separator.join(("a", "b", "label"))] if header else []
    lines += [separator.join(map(str, (*row[:2], label))) for row, label in zip(VECTORS.tolist(), LABELS, strict=True)]
    return (b"\xef\xbb\xbf" if bom else b"") + (newline.join(lines) + newline).encode()


def png_bytes(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def pictures_in_parquet(folder: Path) -> Path:
    pq.write_table(pa.table({"img": [png_bytes(one) for one in IMAGES], "label": LABELS}), folder / "p.parquet")
    return folder / "p.parquet"


def hugging_face(folder: Path) -> None:
    """A folder as the Hub has it: shards named by split, pictures as a struct of bytes and path."""
    for name, rows in (
        ("train-00000-of-00002", slice(0, 4)),
        ("train-00001-of-00002", slice(4, 8)),
        ("test-00000-of-00001", slice(8, 10)),
    ):
        images = [{"bytes": png_bytes(one), "path": "x.png"} for one in IMAGES[rows]]
        pq.write_table(pa.table({"image": images, "label": LABELS[rows]}), folder / f"{name}.parquet")


def penn(folder: Path) -> None:
    for name in ("train", "valid", "test"):
        (folder / f"ptb.{name}.txt").write_bytes(f"a rose is a rose\r\nin {name}\r\n".encode())


def frames_of(*lengths: int) -> Make:
    def make(folder: Path) -> None:
        for at, length in enumerate(lengths):
            place = folder / ("walk" if at % 2 else "run") / f"video {at}"
            place.mkdir(parents=True)
            for number in range(length):  # frame10 comes after frame2
                Image.fromarray(np.full((4, 6), 10 * number + at, np.uint8)).save(place / f"frame{number * 5}.png")

    return make


def mp4(folder: Path) -> None:
    for at in range(3):
        with av.open(str(folder / f"{at}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            for number in range(4):
                picture = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 60 * number, np.uint8), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())


def _standard(data: StoredSet) -> None:
    train = data.x("train")[:].astype(np.float64)
    np.testing.assert_allclose(train[:, :3].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train[:, :3].std(0), 1, atol=1e-6)
    assert data.texts("columns") == ("a", "b", "whole", "same", "truth")
    assert (train[:, 3] == 0).all()
    mean, deviation = (data.manifest.made["standardised"][part] for part in ("mean", "deviation"))
    back = np.sort(everything(data).astype(np.float64) * deviation + mean, axis=0)
    np.testing.assert_allclose(back[:, 0], np.sort(VECTORS[:, 0]), atol=1e-6)


def _two_columns(data: StoredSet) -> None:
    assert data.texts("columns") in (("a", "b"), ("0", "1", "2"))
    np.testing.assert_allclose(data.x("train")[:].mean(0), 0, atol=1e-6)


def _sentences(data: StoredSet) -> None:
    tokens, lengths = data.vocabulary, data.lengths("train")
    assert tokens is not None
    assert lengths is not None
    assert tokens[:4] == ("<pad>", "<bos>", "<eos>", "<unk>")
    said = {
        " ".join(tokens[at] for at in row[:length]) for row, length in zip(data.x("train")[:], lengths, strict=True)
    }
    assert said == {"<bos> a rose is a rose <eos>", "<bos> in train <eos>"}
    assert data.x("train")[1].tolist()[lengths[1] :] == [0, 0, 0]
    assert "<unk>" in [tokens[at] for at in data.x("val")[1]]  # "valid" is not in the training split
    assert tokens[4:6] == ("a", "rose")  # the most frequent first, and then by code point


def _characters(data: StoredSet) -> None:
    assert data.vocabulary is not None
    assert set("dogcatw") & set(data.vocabulary)


def _frames(data: StoredSet) -> None:
    for split in ("train", "val", "test"):
        lengths = data.lengths(split)  # type: ignore[arg-type]
        assert lengths is not None
        for video, length in zip(data.x(split)[:], lengths, strict=True):  # type: ignore[arg-type]
            first = int(video[0, 0, 0, 0])
            assert video[:length, 0, 0, 0].tolist() == [first + 10 * at for at in range(length)]
            assert not video[length:].any()


CASES = [
    Good(
        name="parquet",
        make=parquet,
        shape=(5,),
        support="reals",
        sizes=SIZES,
        classes=("cat", "cow", "dog"),
        check=_standard,
        notes=("1 constant features become 0: same", "columns left out: name"),
    ),
    *(
        Good(name=name, make=text_file(file, content), shape=(2,), support="reals", sizes=SIZES, check=_two_columns)
        for name, file, content in (
            ("csv", "t.csv", csv_of()),
            ("csv with semicolons, CRLF and a byte order mark", "t.csv", csv_of(";", "\r\n", bom=True)),
            ("tsv", "t.tsv", csv_of("\t")),
            ("csv.gz", "t.csv.gz", gzip.compress(csv_of())),
        )
    ),
    Good(
        name="csv without a header",
        make=text_file("t.csv", csv_of(header=False)),
        shape=(3,),
        support="reals",
        sizes=SIZES,
        check=_two_columns,
    ),
    Good(
        name="csv --no-standardise",
        make=text_file("t.csv", csv_of()),
        options=Options(standardise=False, key="a"),
        shape=(1,),
        support="reals",
        sizes=SIZES,
        check=lambda data: np.testing.assert_allclose(
            np.sort(everything(data)[:, 0]), np.sort(VECTORS[:, 0]), rtol=1e-6
        ),
    ),
    Good(name="parquet of pictures", make=pictures_in_parquet, shape=G, sizes=SIZES, pixels=PIXELS, check=in_order),
    Good(name="Hugging Face", make=hugging_face, shape=G, sizes=(7, 1, 2), pixels=PIXELS, check=in_order),
    Good(name="text by splits", make=penn, shape=(7,), support="tokens", sizes=(2, 2, 2), check=_sentences),
    Good(
        name="text of characters",
        make=text_file("t.txt", b"\xef\xbb\xbfdog\n\ncat\ncow\n"),
        options=Options(tokens="char"),
        shape=(5,),
        support="tokens",
        check=_characters,
        notes=("passed over: 1 empty lines",),
    ),
    Good(
        name="text cut",
        make=text_file("t.txt", b"a b c d e\n" * 10),
        options=Options(length=4, vocabulary=6),
        shape=(4,),
        support="tokens",
        sizes=SIZES,
        pixels={(0,): 1, (1,): 4, (2,): 5, (3,): 2},
        notes=("10 sentences were longer, and cut", "vocabulary: 6 of the 9"),
    ),
    Good(
        name="video of frames",
        make=frames_of(3, 4, 2, 3),
        options=Options(kind="video"),
        shape=(4, 1, 4, 6),
        sizes=(2, 1, 1),
        classes=("run", "walk"),
        check=_frames,
    ),
    Good(
        name="video --frames",
        make=frames_of(3, 4, 2, 3),
        options=Options(kind="video", frames=2),
        shape=(2, 1, 4, 6),
        sizes=(2, 1, 1),
        classes=("run", "walk"),
    ),
    Good(
        name="video npy",
        make=npy(np.stack([IMAGES] * 5, 1)),
        options=Options(kind="video"),
        shape=(5, 1, 5, 6),
        sizes=SIZES,
        pixels={(4, 0, 1, 2): 77},
    ),
    Good(
        name="video npy NTHWC",
        make=npy(np.stack([np.stack([IMAGES] * 5, 1)] * 3, -1)),
        shape=(5, 3, 5, 6),
        sizes=SIZES,
        pixels={(4, 2, 1, 2): 77},
    ),
    Good(
        name="mp4",
        make=mp4,
        shape=(4, 3, 16, 32),
        pixels={(0, 0, 8, 8): 0, (3, 1, 8, 8): 180},
        tolerance=6,
    ),
]
