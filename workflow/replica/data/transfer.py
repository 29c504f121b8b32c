"""One transfer of one file: from a folder, or from a server, in words where it fails."""

import errno
import hashlib
import http
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
import urllib3

from replica.artifacts import CannotWrite
from replica.data.registry import matches
from replica.progress import progress

# Small, because what is in flight of a chunk is lost when a connection drops.
CHUNK = 2**14
# Answers after which the same question may have another one: too slow, too early, too often.
AGAIN = {408, 425, 429}
WRONG_CHECKSUM = "its checksum is not the one in config/datasets.yaml"


class Unavailable(Exception):
    """A try at a source failed: why, whether another one makes sense, and after how long."""

    def __init__(self, reason: str, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(reason)
        self.again, self.after = again, after


def copy(source: Path, partial: Path, checksum: str) -> None:
    """Copy a file of a folder to `partial`.

    Raises:
        Unavailable: it is not there, not readable, or another file.
        CannotWrite: `partial` cannot be written.
    """

    # Before anything is written: `partial` may hold the beginning of a download.
    with _reading():
        if source.exists() and not source.is_file():
            raise Unavailable("not a file")
        if not matches(source, checksum):
            # The user's own file may be right, and what was written of it wrong.
            raise Unavailable(f"{WRONG_CHECKSUM} but {_checksum(source, checksum)}")
    _write(_chunks(source), partial, "wb", source.name, 0)
    if not matches(partial, checksum):
        partial.unlink()
        raise Unavailable(WRONG_CHECKSUM)


def _checksum(path: Path, like: str) -> str:
    """The checksum of a file, by the function of another one."""
    kind = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        known = {errno.ENOENT: "no such file", errno.EACCES: "permission denied"}
        words = known.get(error.errno) or (error.strerror or str(error)).lower()
        raise Unavailable(words) from error


def _chunks(source: Path) -> Iterator[bytes]:
    with _reading(), open(source, "rb") as file:
        while chunk := file.read(2**20):
            yield chunk


def download(url: str, partial: Path, checksum: str, timeout: float) -> None:
    """Download a file to `partial`, going on after the bytes that are there.

    Raises:
        Unavailable: there is no answer, not the right one, or another file.
        CannotWrite: `partial` cannot be written.
    """
    have = partial.stat().st_size if partial.exists() else 0
    # A file is stored as it was published, so a server should not encode it on the way.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
            encoding, resumed = _store(answer, partial, have)
    except requests.RequestException as error:
        raise _failure(error) from error
    if matches(partial, checksum) or (encoding and _decode(partial) and matches(partial, checksum)):
        return
    partial.unlink()
    # The first part may have come from another mirror: once more, from zero.
    raise Unavailable(WRONG_CHECKSUM, again=resumed, after=0)


def _store(answer: requests.Response, partial: Path, have: int) -> tuple[str, bool]:
    """Store an answer; its encoding, and whether the bytes that were there are a part of it."""
    if answer.status_code == requests.codes.requested_range_not_satisfiable and have:
        # Everything is there already; the checksum decides.
        return "", True
    _check_status(answer)
    resumed = answer.status_code == requests.codes.partial_content
    begins = answer.headers.get("Content-Range", f"bytes {have}-")
    if resumed and not begins.startswith(f"bytes {have}-"):
        partial.unlink(missing_ok=True)
        raise Unavailable(f"it sent {begins} instead of those from {have} on", again=True, after=0)
    total = (have if resumed else 0) + int(answer.headers.get("Content-Length") or 0)

    def chunks() -> Iterator[bytes]:
        try:
            yield from answer.raw.stream(CHUNK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _failure(error) from error

    _write(chunks(), partial, "ab" if resumed else "wb", partial.stem, total)
    if partial.stat().st_size < total:
        raise Unavailable("the connection was closed early", again=True)
    return answer.headers.get("Content-Encoding", ""), resumed and have > 0


def _write(chunks: Iterator[bytes], partial: Path, mode: str, name: str, total: int) -> None:
    """Write chunks, whose own errors are none of the system: those are about the target.

    Progress is shown where the size is known, as of a download; 0 is not.
    """
    mebi = 2**20
    try:
        with open(partial, mode) as out, ExitStack() as shown:
            tick = None
            if total:
                left = progress(name, -(-total // mebi), out.tell() // mebi)
                tick = shown.enter_context(left)
            for chunk in chunks:
                out.write(chunk)
                if tick is not None:
                    tick(out.tell() // mebi, lambda: "MiB")
    except OSError as error:
        raise cannot_use(partial, error) from error


def _check_status(answer: requests.Response) -> None:
    status = answer.status_code
    if status in (200, 206):
        return
    known = {each.value: each.phrase for each in http.HTTPStatus}
    words = f"HTTP status {status} {known.get(status) or answer.reason or ''}".strip()
    again = status in AGAIN or status >= 500
    raise Unavailable(words, again=again, after=_asked_pause(answer.headers.get("Retry-After")))


def _asked_pause(value: str | None) -> float | None:
    """Seconds that a server asks to wait, as a number or as a date; None if it does not."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _decode(partial: Path) -> bool:
    """Undo gzip or deflate, which a server put around a file; whether the file was one of them."""
    decoder = zlib.decompressobj(wbits=47)  # either of the two, told by the first bytes
    decoded = partial.with_name(f"{partial.name}.decoded")

    def chunks() -> Iterator[bytes]:
        with open(partial, "rb") as file:
            while chunk := file.read(2**20):
                yield decoder.decompress(chunk)
        yield decoder.flush()

    try:
        _write(chunks(), decoded, "wb", partial.stem, 0)
        os.replace(decoded, partial)
    except zlib.error:
        return False
    finally:
        decoded.unlink(missing_ok=True)
    return True


def _failure(error: Exception) -> Unavailable:
    """What an exception of requests or of urllib3 means, in words."""
    words = str(error)
    if isinstance(error, requests.TooManyRedirects):
        return Unavailable("too many redirects")
    if isinstance(error, requests.exceptions.InvalidSchema):
        return Unavailable("it leads to an address that is neither http nor https")
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
        return Unavailable("not an address")
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in words.upper():
        return Unavailable("its TLS certificate was not accepted")
    if isinstance(error, requests.exceptions.SSLError):
        return Unavailable("no TLS connection", again=True)
    if isinstance(error, requests.exceptions.ProxyError):
        return Unavailable("the proxy did not answer", again=True)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return Unavailable("no answer in time", again=True)
    if "NameResolution" in words or "getaddrinfo" in words:
        return Unavailable("no connection, its name could not be resolved", again=True)
    dropped = ("Connection aborted", "Connection broken", "IncompleteRead", "RemoteDisconnected")
    if isinstance(error, urllib3.exceptions.HTTPError) or any(sign in words for sign in dropped):
        return Unavailable("the connection was closed early", again=True)
    if isinstance(error, requests.ConnectionError):
        return Unavailable("no connection", again=True)
    return Unavailable(type(error).__name__)


def cannot_use(path: Path, error: OSError) -> CannotWrite:
    """What an error of the system at a file that is to be written means, in a sentence."""
    words = (error.strerror or str(error)).lower()
    return CannotWrite(
        f"Cannot write {path}: {words}; make room or make the folder writable, or choose another "
        "data_dir in config/config.yaml, then run the same command again."
    )
