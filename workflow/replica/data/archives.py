"""Archives: unpacked without trusting them, and what in them counts."""

import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replica.data.parts import DataError

BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)
OTHER_FORMATS = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x9d": "compress",
    b"\x1f\x8b": "gzip",
}
# What file managers leave in folders, beside names that begin with a dot.
LEFT_BY_SYSTEMS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "icon\r"}


@contextmanager
def unpacked(archive: Path, scratch: Path) -> Iterator[Path]:
    """Unpack a tar or zip archive into a temporary folder, and remove it afterwards.

    Args:
        archive: .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, told by its content.
        scratch: an existing folder in which the temporary one is made.

    Raises:
        DataError: it is damaged, encrypted or of another format, or a member would leave the
            folder.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".unpacked-") as name:
        folder = Path(name)
        try:
            _unpack(archive, folder)
        except BROKEN as error:
            words = " ".join(str(error).split()) or "it ends too early"
            raise DataError(f"{archive} is a damaged archive: {words}.") from error
        except OSError as error:
            if error.errno is None:  # of a decompressor, not of the system
                raise DataError(f"{archive} is a damaged archive: {error}.") from error
            words = f"{archive} cannot be unpacked into {scratch}: {error.strerror}."
            raise DataError(words) from error
        yield folder


def _unpack(archive: Path, folder: Path) -> None:
    with open(archive, "rb") as file:
        start = file.read(6)
    # A tar archive may end with a zip file: then it looks like one from its end.
    if start.startswith(b"PK"):
        _unzip(archive, folder)
    elif tarfile.is_tarfile(archive):
        _untar(archive, folder)
    elif zipfile.is_zipfile(archive):
        _unzip(archive, folder)
    else:
        known = [name for magic, name in OTHER_FORMATS.items() if start.startswith(magic)]
        looks = f"it begins like {known[0]}" if known else f"it begins with {start!r}"
        raise DataError(
            f"{archive} is neither a zip nor a tar archive ({looks}): pack it again as .zip or "
            ".tar.gz."
        )


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if member.flag_bits & 1:
                raise DataError(f"{archive} is encrypted: pack it again without a password.")
            # Some programs on Windows write \ between folders.
            member.filename = member.filename.replace("\\", "/")
            _confined(folder, member.filename, archive)
        try:
            for member in file.infolist():
                file.extract(member, folder)
        except NotImplementedError as error:
            raise DataError(
                f"{archive} is compressed by a method that Python does not support ({error}): pack "
                "it again."
            ) from error


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        members = file.getmembers()
        for member in members:
            _confined(folder, member.name, archive)
            if not (member.isfile() or member.isdir()):
                raise DataError(
                    f"{archive} holds {member.name!r}, which is neither a file nor a folder; it "
                    "was not unpacked."
                )
        # Not by extractall: its safe filter is only in Python from 3.11.4 on, and without it an
        # archive says who may read what.
        for member in members:
            target = folder / member.name
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.extractfile(member) as source, open(target, "wb") as unpacked:
                shutil.copyfileobj(source, unpacked)


def _confined(folder: Path, member: str, archive: Path) -> None:
    target = (folder / member).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise DataError(
            f"{archive} holds {member!r}, a path outside the archive; it was not unpacked."
        )


def visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden names and what systems leave in folders."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name.lower() not in LEFT_BY_SYSTEMS
    ]
