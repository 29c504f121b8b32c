"""One door for every place that a user writes down: a folder, or an address on the network."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

WEB = ("http://", "https://")
FILE = re.compile("file:", re.IGNORECASE)
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def is_address(place: str) -> bool:
    """Whether a place is an http(s) address and not a folder."""
    return place.lower().startswith(WEB)


def normalised(place: str) -> str:
    """The one spelling of a place; that of a normalised place is itself.

    `~` and `$NAME` are expanded, `file://` addresses become paths, `./` and trailing slashes go.
    A relative path stays relative: to the project's folder.

    Raises:
        ValueError: it is empty, names a variable or a user that does not exist, its kind of
            address is unknown, or no file can have such a name here.
    """
    if not place.strip():
        raise ValueError("expected a folder or an address, got nothing")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", place):
        raise ValueError("it contains a tab, a line break or another control character")
    if is_address(place):
        if not urlsplit(place).netloc:
            raise ValueError("the server's name is missing")
        return place.rstrip("/")
    if WINDOWS.match(place):
        raise ValueError("it is a Windows path: write the folder as this system does")
    if FILE.match(place):
        address = urlsplit(place)
        if address.netloc not in ("", "localhost"):
            raise ValueError("it names another machine: write file:///folder")
        path = unquote(address.path)
    elif "://" in place:
        raise ValueError("only folders, file:// and http(s):// can be read")
    else:
        path = _expanded(place)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise ValueError(
            f"file names of this locale ({encoding}) have no such character: set LC_ALL=C.UTF-8"
        ) from None
    # Two slashes at the beginning mean nothing here, but POSIX lets them stand.
    path = re.sub("^//", "/", os.path.normpath(path))
    if "$" in path:
        raise ValueError("a $ must be followed by the name of a variable")
    # What begins like something else, as a folder called ~ does, means the same when read again.
    special = path.startswith(("~", " ")) or FILE.match(path) or WINDOWS.match(path)
    return f"./{path}" if special else path


def _expanded(place: str) -> str:
    """The place with `~`, `~user`, `$NAME` and `${NAME}` replaced."""
    for braced, plain in re.findall(r"(?a)\$(?:\{(\w+)\}|(\w+))", place):
        if not os.environ.get(braced or plain):
            raise ValueError(f"the variable {braced or plain} is not set")
    place = os.path.expandvars(place)
    path = os.path.expanduser(place)
    if path.startswith("~"):
        raise ValueError("there is no such user, or the user has no home folder")
    return path


def folder(place: str) -> str:
    """The same for a setting that must be a folder.

    Raises:
        ValueError: see `normalised`; or it is an address, a file, or has braces, which would be
            wildcards in the rules.
    """
    found = normalised(place)
    if is_address(found):
        raise ValueError("it is an address: name a folder")
    if re.search("[{}]", found):
        raise ValueError("the folder's name must not contain braces")
    if Path(found).exists() and not Path(found).is_dir():
        raise ValueError("it is a file: name a folder")
    return found


Place = Annotated[str, AfterValidator(normalised)]
Folder = Annotated[str, AfterValidator(folder)]
