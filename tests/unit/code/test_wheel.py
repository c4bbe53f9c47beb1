"""A user's package as a wheel: the same source is the same digest, and what is no plain package is refused."""

from __future__ import annotations

import io
import stat
import zipfile

import pytest

from service.code import requirements
from service.code.build import built
from service.code.wheel import CodeError, folder_digest, read, unpack
from tests.packages import package

METADATA = b"Metadata-Version: 2.4\nName: my-parts\nVersion: 1.0\n"
WHEEL = b"Wheel-Version: 1.0\nGenerator: somebody\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRIES = b"[vaesvc.parts]\nlikelihood.quiet = my_parts:Quiet\n"
PLAIN = {
    "my_parts/__init__.py": b"class Quiet: kind = 'quiet'\n",
    "my_parts-1.0.dist-info/METADATA": METADATA,
    "my_parts-1.0.dist-info/WHEEL": WHEEL,
    "my_parts-1.0.dist-info/entry_points.txt": ENTRIES,
    "my_parts-1.0.dist-info/RECORD": b"",
}


def zipped(members, **more) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, **more}.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_the_same_source_is_the_same_digest_wherever_it_lies_and_whatever_lies_around_it(tmp_path):
    first = package(tmp_path / "one")
    second = package(
        tmp_path / "two", files={"build/lib/my_parts/gone.py": "old = 1\n", "my_parts/__pycache__/x.pyc": "junk"}
    )
    one, two = built(first), built(second)
    assert (one.digest, one.data) == (two.digest, two.data)
    assert (one.name, one.version, one.modules) == ("my-parts", "1.0", ("my_parts",))
    assert one.entries == {"beta.half": "my_parts.specs:HalfConfig"}
    assert not (first / "build").exists()  # the user's folder stays as it is
    (first / "my_parts" / "specs.py").write_text("HalfConfig = None\n")
    assert built(first).digest != one.digest


def test_a_wheel_is_taken_as_it_is_and_its_canonical_form_is_its_own(tmp_path):
    wheel = built(package(tmp_path / "source"))
    path = tmp_path / wheel.ref.filename
    path.write_bytes(wheel.data)
    assert built(path) == wheel
    assert read(wheel.data) == wheel


def test_the_unpacked_folder_has_the_digest_and_every_byte_of_it_counts(tmp_path):
    wheel = built(package(tmp_path / "source"))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    unpack(wheel, folder)
    (folder / "my_parts" / "__pycache__").mkdir()
    (folder / "my_parts" / "__pycache__" / "specs.pyc").write_bytes(b"compiled")
    assert folder_digest(folder) == wheel.digest
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            before = path.read_bytes()
            path.write_bytes(before + b"\n")
            assert folder_digest(folder) != wheel.digest, path
            path.write_bytes(before)
    (folder / "more.py").write_text("")
    assert folder_digest(folder) != wheel.digest


def link() -> bytes:
    member = zipfile.ZipInfo("my_parts/secrets.py")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO(zipped(PLAIN))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


def without(name: str) -> dict[str, bytes]:
    return {path: data for path, data in PLAIN.items() if not path.endswith(name)}


REFUSED = {
    "no zip": (b"PK\x03\x04 nothing", "is no wheel"),
    "cut off": (zipped(PLAIN)[:-40], "is no wheel"),
    "damaged": (zipped(PLAIN)[:60] + b"\xff\xff" + zipped(PLAIN)[62:], "is no wheel"),
    "a path that leaves it": (zipped(PLAIN, **{"../outside.py": b""}), "no path inside"),
    "an absolute path": (zipped(PLAIN, **{"/etc/cron.d/x": b""}), "no path inside"),
    "a path of windows": (zipped(PLAIN, **{"C:\\x.py": b""}), "no path inside"),
    "a path with a line break": (zipped(PLAIN, **{"a\nb.py": b""}), "no path inside"),
    "a link": (link(), "is a link"),
    "a bomb": (zipped(PLAIN, **{"my_parts/zeros.bin": bytes(17 << 20)}), "unpacked; at most 16.0 MiB"),
    "many files": (zipped(PLAIN, **{f"my_parts/f{n}.py": b"" for n in range(10_001)}), "at most 10,000"),
    "compiled": (zipped(PLAIN, **{"my_parts/fast.cpython-311-x86_64-linux-gnu.so": b"\x7fELF"}), "compiled code"),
    "of a platform": (
        zipped(PLAIN, **{"my_parts-1.0.dist-info/WHEEL": WHEEL.replace(b"none-any", b"abi3-linux_x86_64")}),
        "built for py3-abi3-linux_x86_64; only pure Python",
    ),
    "scripts": (zipped(PLAIN, **{"my_parts-1.0.data/scripts/run": b"#!/bin/sh"}), "has to be installed"),
    "no metadata": (zipped(without("METADATA")), "has no my_parts-1.0.dist-info/METADATA"),
    "two packages": (zipped(PLAIN, **{"other-2.0.dist-info/METADATA": METADATA}), "has 2 folders"),
    "another name": (zipped(PLAIN, **{"my_parts-1.0.dist-info/METADATA": METADATA.replace(b"my-", b"your-")}), "fit"),
    "no parts": (zipped(without("entry_points.txt")), "names no parts"),
    "ours": (zipped(PLAIN, **{"service/__init__.py": b""}), "'service', which is vaesvc's"),
    "ours as a file": (zipped(PLAIN, **{"vae_models.py": b""}), "'vae_models', which is vaesvc's"),
    "python's": (zipped(PLAIN, **{"json.py": b""}), "'json', which is the standard library's"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_package_is_refused(name):
    data, why = REFUSED[name]
    with pytest.raises(CodeError, match=why) as error:
        read(data, most_bytes=2 << 20, what="the wheel x.whl")
    assert str(error.value).startswith("the wheel x.whl")


def test_a_large_one_is_refused_before_it_is_opened():
    with pytest.raises(CodeError, match=r"has 2\.0 MiB; at most 1\.0 MiB are taken"):
        read(bytes(2 << 20), most_bytes=1 << 20)


def test_a_folder_that_is_no_package_or_cannot_be_built_is_told_why(tmp_path):
    with pytest.raises(CodeError, match="is not there"):
        built(tmp_path / "nowhere")
    with pytest.raises(CodeError, match=r"has no pyproject\.toml"):
        built(tmp_path)
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(CodeError, match="is no wheel"):
        built(tmp_path / "text.txt")
    folder = package(tmp_path / "source")
    (folder / "pyproject.toml").write_text("[project\n")
    with pytest.raises(CodeError, match="is not TOML"):
        built(folder)
    (folder / "pyproject.toml").write_text('[build-system]\nrequires=[]\nbuild-backend="setuptools.build_meta"\n')
    (folder / "setup.py").write_text("raise SystemExit('no build today')\n")
    with pytest.raises(CodeError, match=r"cannot be built: .*no build today"):
        built(folder)


def test_dependencies_that_nodes_do_not_have_are_named(tmp_path):
    met = built(package(tmp_path / "met", dependencies=("torch>=2", "vaesvc", "nothing-such; extra == 'more'")))
    requirements.check(met)
    unmet = built(
        package(tmp_path / "unmet", dependencies=("torch>=99", "nothing-such>=1", "numpy; python_version<'3'"))
    )
    with pytest.raises(CodeError) as error:
        requirements.check(unmet)
    said = str(error.value)
    assert "torch>=99, and 2." in said
    assert "nothing-such>=1, which is not installed" in said
    assert "numpy" not in said
