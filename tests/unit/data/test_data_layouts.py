"""Files as people have them: in other tools' folders, with other ends of lines, unpacked, as tables, as pickles."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from tests.unit.data import writers
from tests.unit.data.publishing import CATALOGUE, Publish, adopt, load, offline, places_named, random_bytes, substitute
from tests.unit.data.test_data_celeba import PARTS, SIZES, _celeba, _check_faces, _faces
from vae_models.data import formats, sums
from vae_models.data.builders import standard
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.fetch import Policy
from vae_models.data.locate import obtain
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.sources import SOURCES

AT_ONCE = Policy(rounds=1, backoff_seconds=0)
STEMS = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}


def _put(root: Path | None, name: str, content: bytes) -> Path:
    assert root is not None
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- MNIST and Fashion-MNIST ----------------------------------------------------------------------------------------


def _idx(pixel: int) -> dict[str, bytes]:
    images, labels = np.full((6, 28, 28), pixel, np.uint8), np.arange(6, dtype=np.uint8)
    return {
        "train-images": writers.idx(images), "train-labels": writers.idx(labels),
        "test-images": writers.idx(images[:2]), "test-labels": writers.idx(labels[:2]),
    }  # fmt: skip


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("inside", ["", "{}", "{}/raw"])
def test_fault_13a_torchvisions_mnist_and_fashion_mnist_are_found(
    inside: str, packed: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VAESVC_DATA_DIR is torchvision's root, the set's folder in it, or the files' folder."""
    assert places.data_dir is not None
    for name, folder, pixel in (("mnist", "MNIST", 3), ("fashion-mnist", "FashionMNIST", 4)):
        contents = _idx(pixel)
        adopt(monkeypatch, name, contents, sizes=(4, 2, 2))
        for key, content in contents.items():
            stored = gzip.compress(content) if packed else content
            _put(places.data_dir, f"{folder}/raw/{STEMS[key]}{'.gz' if packed else ''}", stored)
    for name, folder, pixel in (("mnist", "MNIST", 3), ("fashion-mnist", "FashionMNIST", 4)):
        at = Places(data_dir=places.data_dir / inside.format(folder), cache_dir=places.cache_dir)
        dataset = load(name, at)
        assert dataset.train.x.unique().tolist() == [pixel]
        assert dataset.val.labels is not None
        assert dataset.val.labels.tolist() == [4, 5]


def test_fault_13a_what_is_near_is_named(places: Places) -> None:
    for name in ("mnist.npz", "MNIST/processed/training.pt", "Train-Images-idx3-ubyte"):
        _put(places.data_dir, name, b"x")
    _put(places.data_dir, "mnist/train-images-idx3-ubyte.gz.crdownload", b"x")
    (places.data_dir / "train-images-idx3-ubyte.gz").mkdir()  # type: ignore[operator]
    with pytest.raises(DataMissing) as missing:
        obtain(_offline("mnist"), _offline("mnist").files["train-images"], bytes, places, policy=AT_ONCE)
    message = str(missing.value)
    for name, meaning in (
        ("mnist.npz", "Keras's copy, in numpy's format"),
        ("MNIST/processed/training.pt", "torchvision's copy of old, a pickle, and nothing is unpickled here"),
        ("Train-Images-idx3-ubyte", "a file: mind the capitals"),
        ("mnist/train-images-idx3-ubyte.gz.crdownload", "a download that has not ended"),
        ("train-images-idx3-ubyte.gz", "a folder, and no such is read"),
    ):
        assert f"There is {places.data_dir}/{name}, which is {meaning}." in message
    assert f"{places.data_dir}/MNIST/raw/train-images-idx3-ubyte" in places_named(message)


def test_fault_13a_a_folder_without_anything_near_is_listed(places: Places) -> None:
    for i in range(20):
        _put(places.data_dir, f"holiday-{i:02}.jpg", b"")
    with pytest.raises(DataMissing, match=r"There is in .*: holiday-00\.jpg, .*holiday-11\.jpg and 8 more\."):
        obtain(_offline("svhn"), _offline("svhn").files["train"], bytes, places, policy=AT_ONCE)


def _offline(name: str):

    return offline(CATALOGUE[name])


# --- text -----------------------------------------------------------------------------------------------------------

MARK = b"\xef\xbb\xbf"
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "lf": lambda text: text,
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "bom": lambda text: MARK + text,
    "bom-crlf": lambda text: MARK + text.replace(b"\n", b"\r\n"),
    "no end": lambda text: text.removesuffix(b"\n"),
    "empty lines": lambda text: text + b"\n\n",
    "cr": lambda text: text.replace(b"\n", b"\r"),
}


@pytest.mark.parametrize("published", ["lf", "crlf"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_fault_13a_celebas_list_is_the_same_whatever_ends_its_lines(
    spelling: str, published: str, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = _faces()
    contents = _celeba(faces)
    lines = contents["partition"]
    adopt(monkeypatch, "celeba", contents | {"partition": SPELLINGS[published](lines)}, sizes=SIZES)
    _put(places.data_dir, "celeba/img_align_celeba.zip", contents["images"])
    listing = _put(places.data_dir, "celeba/list_eval_partition.txt", SPELLINGS[spelling](lines))
    dataset = load("celeba", places)
    _check_faces(dataset, faces)
    assert dataset.sources["list_eval_partition.txt"] == hashlib.sha256(listing.read_bytes()).hexdigest()


def test_fault_13a_a_list_with_another_line_is_altered_still(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = _celeba(_faces())
    adopt(monkeypatch, "celeba", contents, sizes=SIZES)
    _put(places.data_dir, "celeba/img_align_celeba.zip", contents["images"])
    _put(places.data_dir, "celeba/list_eval_partition.txt", contents["partition"].replace(b"jpg 1", b"jpg 0", 1))
    with pytest.raises(DataCorrupt, match=r"list_eval_partition\.txt is truncated or altered: expected content of SHA"):
        load("celeba", places)


def test_fault_13a_the_published_list_of_celeba_ends_its_lines_with_crlf() -> None:
    """202,599 lines `000001.jpg 0` of 12 characters and two for their ends: the length that is published."""
    form = CATALOGUE["celeba"].files["partition"].forms[0]
    assert form.bytes == 202_599 * (12 + 2)
    assert CATALOGUE["celeba"].files["partition"].content == {form.sha256}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_fault_13a_binarized_mnist_is_the_same_whatever_ends_its_lines(
    spelling: str, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {key: writers.amat(random_bytes(n, 784) & 1) for key, n in (("train", 4), ("val", 2), ("test", 2))}
    adopt(monkeypatch, "binarized-mnist", parts, sizes=(4, 2, 2))
    for key, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        _put(places.data_dir, f"binarized_mnist_{name}.amat", SPELLINGS[spelling](parts[key]))
    dataset = load("binarized-mnist", places)
    assert torch.equal(dataset.train.x.flatten(1), torch.from_numpy(formats.read_amat(parts["train"]) * 255))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_fault_13a_motion_is_the_same_whatever_ends_its_lines(spelling: str, places: Places) -> None:
    a_set = CATALOGUE["cmu-motion"]
    _put(places.data_dir, "all_asfamc/subjects/02/02.asf", SPELLINGS[spelling](writers.ASF.encode()))
    found = obtain(_offline("cmu-motion"), a_set.files["skeleton-02"], formats.read_asf, places)
    assert found.value.channels[0] == ("root", 6)


def test_text_forms_are_of_the_same_lines() -> None:
    for spelled in (b"a\nb\n", b"a\r\nb", MARK + b"a\rb\r\r", b"a\r\nb\n\n"):
        assert sums.text_forms(spelled) == (b"a\nb\n", b"a\r\nb\r\n")
    assert sums.text_forms(b"a \nb\n") != sums.text_forms(b"a\nb\n")


# --- CelebA as Kaggle has it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["lf", "crlf", "bom"])
@pytest.mark.parametrize("folder", ["celeba", "celeba-dataset", "archive", "."])
def test_fault_13a_kaggles_celeba_is_found(
    folder: str, spelling: str, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = _faces()
    contents = _celeba(faces)
    published = contents["partition"].replace(b"\n", b"\r\n")
    adopt(monkeypatch, "celeba", {"partition": published}, sizes=SIZES)
    table = b"image_id,partition\n" + contents["partition"].replace(b" ", b",")
    _put(places.data_dir, f"{folder}/list_eval_partition.csv", SPELLINGS[spelling](table))
    for i, face in enumerate(faces, 1):
        _put(places.data_dir, f"{folder}/img_align_celeba/img_align_celeba/{i:06d}.jpg", face)
    _check_faces(load("celeba", places), faces)


def test_fault_13a_a_table_of_other_columns_is_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt(monkeypatch, "celeba", {"partition": _celeba(_faces())["partition"]}, sizes=SIZES)
    _put(places.data_dir, "celeba/list_eval_partition.csv", b"image_id,Smiling\n000001.jpg,1\n")
    with pytest.raises(DataCorrupt, match="its first line is b'image_id,Smiling', expected image_id,partition"):
        load("celeba", places)


def test_fault_13a_the_authors_own_folders_are_found(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = _faces()
    contents = _celeba(faces)
    adopt(monkeypatch, "celeba", contents, sizes=SIZES)
    _put(places.data_dir, "CelebA/Eval/list_eval_partition.txt", contents["partition"])
    _put(places.data_dir, "CelebA/Img/img_align_celeba.zip", contents["images"])
    dataset = load("celeba", places)
    _check_faces(dataset, faces)
    assert sum(len(split) for split in (dataset.train, dataset.val, dataset.test)) == len(PARTS)


# --- CIFAR-10, Python version ---------------------------------------------------------------------------------------


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    monkeypatch.setattr(standard, "_CIFAR_RECORDS", 12)
    monkeypatch.setattr(standard, "_SUBSET_TEST", 5)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {name: (random_bytes(12, 3, 32, 32), np.arange(12) % 10) for name in names}


def _keys(batches: dict[str, object]) -> dict[str, str]:
    return dict(zip((*(f"batch-{i}" for i in range(1, 6)), "test"), batches, strict=True))


@pytest.mark.parametrize("form", ["folder", "in the folder", "archive", "of the set"])
@pytest.mark.parametrize("name", ["cifar10", "cifar10-subset"])
def test_fault_13a_torchvisions_cifar10_is_read_without_unpickling(
    name: str, form: str, batches, publish: Publish, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "Unpickler", lambda *_, **__: pytest.fail("unpickled"))
    pickles = {batch: writers.cifar_python(*batches[batch]) for batch in batches}
    sizes = (48, 12, 12) if name == "cifar10" else (10, 2, 5)
    if form == "archive":
        content = writers.tar_gz({f"cifar-10-batches-py/{batch}": pickles[batch] for batch in pickles})
        publish(name, {"archive": content}, sizes=sizes)
        (places.data_dir / "cifar10/cifar-10-binary.tar.gz").rename(places.data_dir / "cifar-10-python.tar.gz")  # type: ignore[operator]
        python = CATALOGUE[name].files["archive"].forms[1]
        assert python.name == "cifar-10-python.tar.gz"
        _let_in(monkeypatch, name, hashlib.sha256(content).hexdigest())
    else:
        adopt(monkeypatch, name, {key: pickles[batch] for key, batch in _keys(batches).items()}, sizes=sizes)
        prefix = {"folder": "cifar-10-batches-py/", "in the folder": "", "of the set": "cifar10/cifar-10-batches-py/"}
        for batch, content in pickles.items():
            _put(places.data_dir, prefix[form] + batch, content)
    dataset = load(name, places)
    first, labels = batches["data_batch_1"]
    n = 12 if name == "cifar10" else 10
    np.testing.assert_array_equal(dataset.train.x[:n], first[:n])
    assert dataset.train.labels is not None
    np.testing.assert_array_equal(dataset.train.labels[:n], labels[:n])
    np.testing.assert_array_equal(dataset.test.x[:5], batches["test_batch"][0][:5])


def test_fault_13a_an_altered_file_that_somebody_put_into_the_cache_is_not_deleted(
    batches, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickles = {key: writers.cifar_python(*batches[batch]) for key, batch in _keys(batches).items()}
    adopt(monkeypatch, "cifar10", pickles, sizes=(48, 12, 12))
    for key, batch in _keys(batches).items():
        _put(places.cache_dir, f"cifar10/cifar-10-batches-py/{batch}", pickles[key])
    altered = _put(places.cache_dir, "cifar10/cifar-10-batches-py/data_batch_2", pickles["batch-2"] + b"x")
    with pytest.raises(DataCorrupt, match="data_batch_2 is truncated or altered: expected content of SHA-256"):
        load("cifar10", places)
    assert altered.exists()


def _let_in(monkeypatch: pytest.MonkeyPatch, name: str, sha256: str) -> None:
    """The archive of the Python version is published with this sum."""
    a_set = SOURCES.get(name)
    assert isinstance(a_set, Published)
    file = a_set.files["archive"]
    forms = (file.forms[0], replace(file.forms[1], sha256=sha256))
    changed = replace(a_set, files=MappingProxyType({**a_set.files, "archive": replace(file, forms=forms)}))
    substitute(monkeypatch, changed)


def test_the_written_pickle_is_what_python_reads() -> None:
    """An independent reader of the format, on bytes that were made here."""
    images, labels = random_bytes(300, 3, 32, 32), np.arange(300) % 10
    content = writers.cifar_python(images, labels)
    batch = pickle.loads(content, encoding="latin1")
    np.testing.assert_array_equal(batch["data"], images.reshape(300, -1))
    assert batch["labels"] == labels.tolist()
    ours, found = formats.read_cifar(content, 300)
    np.testing.assert_array_equal(ours, images)
    np.testing.assert_array_equal(found, labels)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", range(6))
def test_fault_13a_a_pickle_that_would_run_something_runs_nothing(protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    for value in (_Bomb(witness), {b"data": _Bomb(witness), b"labels": [0, 1]}):
        content = pickle.dumps(value, protocol=protocol)
        with pytest.raises(ValueError, match=r"pickle|expected 6,146|data are not"):
            formats.read_cifar(content, 2)
        assert not witness.exists()
    pickle.loads(pickle.dumps(_Bomb(witness), protocol=protocol))
    assert witness.exists()  # it would have


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda content: content[:-1], "pickle"),
        (lambda content: content[: len(content) // 2], "pickle"),
        (lambda content: content.replace(b"U\x06labels", b"U\x06Labels"), "has no data and labels"),
        (lambda content: content.replace(b"]q\x05(K\x00", b"]q\x05(K\x0a"), "record 0 has label 10"),
        (lambda content: content.replace(b"U\x02u1", b"U\x02i1"), "expected 2 x 3,072 bytes"),
        (lambda content: content.replace(b"cnumpy\ndtype", b"cos\nsystem!!"), "expected 2 x 3,072 bytes"),
        (lambda content: b"\x80\x02}.", "has no data and labels"),
        (lambda content: b"\x80\x02h\x07.", "makes no sense at byte 2"),
        (lambda content: b"\x80\x02t.", "makes no sense at byte 2"),
        (lambda content: b"\x80\x02K\x00K\x01s.", "makes no sense"),
        (lambda content: b"\x80\x02K\x00Q.", "instruction BINPERSID at byte 4"),
        (lambda content: b"\x80\x02\x82\x01.", "instruction EXT1"),
    ],
)
def test_fault_13a_a_pickle_of_another_kind_is_refused(spoil, complaint: str) -> None:
    content = spoil(writers.cifar_python(random_bytes(2, 3, 32, 32), np.array([0, 1])))
    with pytest.raises(ValueError, match=complaint):
        formats.read_cifar(content, 2)


# --- Omniglot, SVHN, dSprites ---------------------------------------------------------------------------------------


def _drawings(part: str, alphabets: int, per: int) -> dict[str, bytes]:
    members = {}
    for alphabet in range(alphabets):
        for number in range(1, per + 1):
            ink = np.ones((105, 105), bool)
            ink[5 * alphabet : 5 * alphabet + 20, number : number + 9] = False
            path = f"{part}/Alphabet_{alphabet:02}/character01/{alphabet:04}_{number:02}.png"
            members[path] = writers.picture(ink, "png")
    return members


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("folder", ["omniglot-py", "omniglot/python", "."])
def test_fault_13a_omniglots_drawings_are_found_packed_and_unpacked(
    folder: str, form: str, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {
        "background": _drawings("images_background", 30, 20),
        "evaluation": _drawings("images_evaluation", 2, 20),
    }
    zips = {key: writers.zipped(files) for key, files in members.items()}
    adopt(monkeypatch, "omniglot", zips, sizes=(400, 80, 160))
    for key, files in members.items():
        if form == "zip":
            _put(places.data_dir, f"{folder}/images_{key}.zip", zips[key])
            continue
        for name, png in files.items():
            _put(places.data_dir, f"{folder}/{name}", png)
    dataset = load("omniglot", places)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (400, 80, 160)
    whole = [formats.read_drawings(content) for content in zips.values()]
    late = np.concatenate([drawings.images[drawings.numbers > 15] for drawings in whole])
    np.testing.assert_array_equal(dataset.test.x[:, 0], late)
    if form == "folder":
        (places.data_dir / folder / next(iter(members["evaluation"]))).unlink()  # type: ignore[operator]
        with pytest.raises(DataCorrupt, match="images_evaluation is truncated or altered: expected content of SHA-256"):
            load("omniglot", places)


def test_fault_13a_torchvisions_svhn_is_found(publish: Publish, places: Places) -> None:
    images = random_bytes(9, 3, 32, 32)
    contents = {"train": writers.svhn(images, np.arange(9)), "test": writers.svhn(images[:4], np.arange(4))}
    publish("svhn", contents, sizes=(6, 3, 4))
    for part in contents:
        (places.data_dir / f"svhn/{part}_32x32.mat").rename(places.data_dir / f"{part}_32x32.mat")  # type: ignore[operator]
    np.testing.assert_array_equal(load("svhn", places).test.x, images[:4])


@pytest.mark.parametrize("name", [name for name, a_set in CATALOGUE.items() if a_set.files])
def test_fault_13a_every_place_that_is_looked_at_is_named(name: str, places: Places) -> None:
    a_set = _offline(name)
    for file in a_set.files.values():
        with pytest.raises(DataMissing) as missing:
            obtain(a_set, file, bytes, places, policy=AT_ONCE)
        named = places_named(str(missing.value))
        for folder in (file.folder or a_set.folder, a_set.name, *file.folders, "."):
            for form in file.forms:
                assert str(places.data_dir / folder / form.name) in named  # type: ignore[operator]
