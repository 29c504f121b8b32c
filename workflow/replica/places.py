"""One door for every place that a user writes down: a folder, or an address on the network."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

WEB = ("http://", "https://")


def is_address(place: str) -> bool:
    """Whether a place is an http(s) address and not a folder."""
    return place.lower().startswith(WEB)


def normalised(place: str) -> str:
    """The one spelling of a place.

    `~` and `$NAME` are expanded, `file://` addresses become paths, `./` and trailing slashes go.
    A relative path stays relative: to the project's folder.

    Raises:
        ValueError: it is empty, names a variable or a user that does not exist, or its kind of
            address is unknown.
    """
    place = place.strip()
    if not place:
        raise ValueError("expected a folder or an address, got nothing")
    if is_address(place):
        return place.rstrip("/")
    if place.lower().startswith("file:"):
        address = urlsplit(place)
        if address.netloc not in ("", "localhost"):
            raise ValueError(f"{place!r} names another machine: write file:///folder")
        place = unquote(address.path)
    elif "://" in place:
        raise ValueError(f"{place!r}: only folders, file:// and http(s):// can be read")
    expanded = os.path.expanduser(os.path.expandvars(place))
    if expanded.startswith("~"):
        raise ValueError(f"{place!r}: there is no such user or no home folder")
    if "$" in expanded:
        raise ValueError(f"{place!r}: this variable is not set")
    return os.path.normpath(expanded)


def folder(place: str) -> str:
    """The same for a setting that must be a folder.

    Raises:
        ValueError: see `normalised`; or it is an address.
    """
    found = normalised(place)
    if is_address(found):
        raise ValueError(f"{place!r} is an address: name a folder")
    if Path(found).exists() and not Path(found).is_dir():
        raise ValueError(f"{place!r} is a file: name a folder")
    return found


Place = Annotated[str, AfterValidator(normalised)]
Folder = Annotated[str, AfterValidator(folder)]
