"""Errors of the operating system as one sentence for people: what, where, what to do."""

import errno
import os
from pathlib import Path

# By errno: what is wrong, and what to do.
REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: make it readable and the folder writable",
    errno.EPERM: "the system does not permit it: only the owner may do this",
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.ENOTDIR: "a part of this path is a file, not a folder: move it away",
    errno.EISDIR: "this is a folder and not a file: move it away",
    errno.EEXIST: "something else is there already: move it away",
    errno.ENOTEMPTY: "the folder is not empty: empty it",
    errno.ELOOP: "its links form a loop: delete them",
    errno.ENAMETOOLONG: "the name is too long: choose a folder with a shorter path",
    errno.EXDEV: "this leads to another file system: choose a folder on the same one",
    errno.EFBIG: "the file is larger than is allowed here: raise the limit (ulimit -f)",
    errno.EIO: "the disk or its network reports an error: see whether it works at all",
    errno.ESTALE: "the network disk has lost sight of it: remount it",
    errno.ETIMEDOUT: "the network disk does not answer: see whether it works at all",
    errno.ENOTCONN: "the network disk is not connected: remount it",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine: end other programs",
    errno.EBUSY: "another program holds it: end that program",
    errno.ETXTBSY: "another program runs it: end that program",
    errno.ENOLCK: "this file system cannot lock files: choose another folder",
    errno.EAGAIN: "there are too many processes already: end some, or raise the limit (ulimit -u)",
    errno.ENOMEM: "there is not enough memory: end other programs",
    errno.ENOEXEC: "this program is not for this machine",
}


def reason(error: OSError, path: Path | str | None = None) -> str:
    """The reason and the remedy, without a full stop; names the owner or the link in the way.

    Args:
        path: what was to be used; else the one that the error names.
    """
    known = REASONS.get(error.errno or 0)
    if known is None:
        return (error.strerror or str(error) or type(error).__name__).rstrip(".")
    path = path or error.filename
    if path is None or isinstance(path, int):
        return known
    if error.errno in (errno.EACCES, errno.EPERM) and (foreign := _foreign(Path(path))):
        return foreign
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        return _obstacle(Path(path)) or known
    return known


def sentence(error: OSError) -> str:
    """One sentence on any error of the operating system."""
    if error.errno is None or not error.filename or isinstance(error.filename, int):
        # Raised with words of our own, or of a library.
        text = reason(error)
        return f"{text[:1].upper()}{text[1:]}."
    return f"{os.fsdecode(error.filename)}: {reason(error)}."


def _foreign(path: Path) -> str | None:
    """Whose the path, or the folder that it would be in, is, where it is not mine."""
    for place in (path, *path.absolute().parents):
        try:
            owner = place.lstat().st_uid
        except OSError:
            continue
        if owner == os.geteuid():
            return None
        what = "it" if place == path else str(place)
        return (
            f"{what} belongs to {_user(owner)} and you are {_user(os.geteuid())}: ask for "
            "permission, or work on a copy of your own"
        )
    return None


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _obstacle(path: Path) -> str | None:
    """The first part of a path that leads nowhere or is a file."""
    for place in (*reversed(path.absolute().parents), path):
        if os.path.islink(place) and not os.path.exists(place):
            target = os.readlink(place)
            return f"{place} is a link to {target}, which is missing: create it, or delete the link"
        if os.path.isfile(place) and place != path:
            return f"{place} is a file, not a folder: move it away"
    return None
