"""Members of tar files lie where tarfile finds them; what is no plain file is refused in one sentence."""

from __future__ import annotations

import gzip
import io
import random
import resource
import tarfile
from pathlib import Path

import pytest

from lessonplan.data.shards.tape import Member, members
from lessonplan.errors import DataError

FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def found(path: Path) -> list[Member]:
    with path.open("rb") as file:
        return list(members(path, file, path.stat().st_size))


@pytest.mark.parametrize("form", FORMS)
def test_members_lie_where_tarfile_finds_them(tmp_path: Path, form: str) -> None:
    rng, path = random.Random(form), tmp_path / "some.tar"
    with tarfile.open(path, "w", format=FORMS[form]) as tar:
        tar.add(tmp_path, "folder", recursive=False)
        for number in range(120):
            name = "".join(rng.choice("abc.-é ") for _ in range(rng.randint(0, 60))) + str(number)
            name = ("x" * 40 + "/") * rng.choice((0, 0, 1, 3)) + name
            name += "y" * 300 if number % 9 == 0 and form != "ustar" else ""
            content = rng.randbytes(rng.choice((0, 1, 511, 512, 513, 2000)))
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1.5 if form == "pax" else 1
            tar.addfile(member, io.BytesIO(content))
    with tarfile.open(path) as tar:
        theirs = [Member(one.name, one.offset_data, one.size) for one in tar if one.isreg()]
    assert found(path) == theirs


def test_numbers_of_gnu_that_octal_digits_do_not_hold(tmp_path: Path) -> None:
    """A member of 9 GiB, in a file with a hole."""
    size, path = 9 * 2**30 + 7, tmp_path / "large.tar"
    member = tarfile.TarInfo("large.bin")
    member.size = size
    for form in FORMS.values():
        if form == tarfile.USTAR_FORMAT:
            continue
        with path.open("wb") as file:
            head = member.tobuf(form)
            file.write(head)
            file.truncate(len(head) + -(-size // 512) * 512)
            file.seek(0, 2)
            small = tarfile.TarInfo("small.bin")
            small.size = 3
            file.write(small.tobuf(form) + b"abc".ljust(512, b"\0") + bytes(1024))
        large, small_one = found(path)
        assert (large.size, small_one.size) == (size, 3)
        with path.open("rb") as file:
            file.seek(small_one.start)
            assert file.read(3) == b"abc"


def _tar(*given: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in given:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def _member(name: str = "a.png", kind: bytes = tarfile.REGTYPE, size: int = 0, **more: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    for key, value in more.items():
        setattr(member, key, value)
    return member


SOUND = _tar(_member(size=700), _member("b.png", size=5))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_tar(_member(kind=tarfile.SYMTYPE, linkname="/etc/passwd")), "holds a link, 'a.png': only plain files"),
        (_tar(_member(kind=tarfile.LNKTYPE, linkname="b")), "holds a link"),
        (_tar(_member(kind=tarfile.CHRTYPE)), "holds a device"),
        (_tar(_member(kind=tarfile.BLKTYPE)), "holds a device"),
        (_tar(_member(kind=tarfile.FIFOTYPE)), "holds a pipe"),
        (_tar(_member(kind=b"S")), "holds a sparse file"),
        (_tar(_member(pax_headers={"GNU.sparse.map": "0,1"}), form=tarfile.PAX_FORMAT), "holds a sparse file"),
        (_tar(_member(kind=b"M")), "holds a piece of a file"),
        (_tar(_member(kind=b"Q")), "a member of the kind b'Q'"),
        (_tar(_member("../../x.png")), "points outside the archive's folder"),
        (_tar(_member("/x.png")), "points outside"),
        (_tar(_member("a\\..\\b.png")), "points outside"),
        (_tar(_member("C:x.png")), "points outside"),
        (_tar(_member(pax_headers={"path": "../x"}), form=tarfile.PAX_FORMAT), "points outside"),
        (SOUND[:900], r"is cut off, or damaged: its member 'a.png' has 700 bytes from byte 512 on"),
        (SOUND[:1536], "is cut off: it ends at byte 1536 without an end mark"),
        (SOUND[:1700], "is cut off: it ends at byte 1700 without"),
        (SOUND[:300], "is no tar file"),
        (SOUND + SOUND, "goes on behind its end mark at byte 2560"),
        (SOUND[:1536] + b"x" * 512 + SOUND[2048:], "is damaged at byte 1536, where a header should be"),
        (SOUND[:100] + b"1" + SOUND[101:], "is no tar file"),
        (b"", "is no tar file"),
        (b"hello" * 300, "is no tar file"),
        (gzip.compress(SOUND), r"is compressed \(gzip\): members are read where they lie"),
        (b"\x28\xb5\x2f\xfd" + bytes(900), r"is compressed \(zstd\)"),
        (b"PK\x03\x04" + bytes(900), r"is compressed \(zip\)"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as told:
        found(path)
    assert str(path) in str(told.value)


def _with_size(field: bytes, kind: bytes = b"0") -> bytes:
    """A header with any field for the size, and a right checksum."""
    head = bytearray(_member(kind=kind).tobuf(tarfile.GNU_FORMAT))
    head[124:136] = field
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (b"77777777777\0", "has 8589934591 bytes"),
        (b"\x80" + b"\xff" * 11, "has 309485009821345068724781055 bytes"),
        (b"\xff" * 12, "names no size"),
        (b"-0000000001\0", "names no size"),
        (b"99999999999\0", "names no size"),
    ],
)
def test_sizes_that_cannot_be(tmp_path: Path, field: bytes, says: str) -> None:
    (tmp_path / "a.tar").write_bytes(_with_size(field) + bytes(2048))
    with pytest.raises(DataError, match=says):
        found(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
def test_extended_headers_of_gigabytes_are_not_read(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(_with_size(b"%011o\0" % (3 * 2**30), kind))
        file.truncate(4 * 2**30)  # a hole: nothing lies on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="extended header of 3221225472 bytes at byte 0: at most 1048576 are read"):
        found(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize(
    "record", [b"5 a=b\n", b"99 path=x\n", b"path=x\n", b"9999999999 path=x\n", b"10 path:x\n", b"-6 a=b\n"]
)
def test_extended_headers_that_cannot_be_read(tmp_path: Path, record: bytes) -> None:
    head = _with_size(b"%011o\0" % len(record), b"x")
    (tmp_path / "a.tar").write_bytes(head + record.ljust(512, b"\0") + SOUND)
    with pytest.raises(DataError, match="the extended header at byte 0 cannot be read"):
        found(tmp_path / "a.tar")


def test_a_size_in_an_extended_header_that_is_none(tmp_path: Path) -> None:
    for said in (b"15 size=1e99999\n", b"11 size=-1\n"):
        size = len(said)
        record = b"%d %s" % (size, said.partition(b" ")[2])
        head = _with_size(b"%011o\0" % len(record), b"x")
        (tmp_path / "a.tar").write_bytes(head + record.ljust(512, b"\0") + SOUND)
        with pytest.raises(DataError, match="has the size"):
            found(tmp_path / "a.tar")
