"""Data arrive whole or not at all, and take one form."""

import errno
import gzip
import io
import itertools
import os
import pickle
import re
import socket
import tarfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image

from data_files import IMAGES, LABELS, entry, idx, md5, npy, png, prepared, tar
from replica.artifacts import CannotWrite, CorruptArtifact
from replica.configuration import ConfigError
from replica.data.archives import unpacked
from replica.data.fetch import FetchError, fetch_dataset, receipt
from replica.data.prepare import DataError, load, prepare_dataset, verify
from replica.data.registry import load_registry
from replica.data.transfer import CHUNK, copy

QUICK = {"pause": 0.01, "timeout": 5.0}


class Server(ThreadingHTTPServer):
    """Serves a folder on loopback; misbehaves as told, and remembers what was asked."""

    def __init__(
        self, folder: Path, *, ranges: bool = True, drop_first: int = 0, refusals=(), headers=None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.ranges, self.drops, self.asked = folder, ranges, drop_first, []
        self.refusals, self.headers, self.encodings = list(refusals), headers or {}, set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        server.encodings.add(self.headers.get("Accept-Encoding"))
        if server.refusals:
            status, headers = server.refusals.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, start = path.read_bytes(), 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        body = data[start:]
        if server.drops:
            server.drops -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(files, **how):
        folder = tmp_path / f"server{len(servers)}"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        servers.append(Server(folder, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


DATA = {"input.txt": os.urandom(300_000)}

# ------------------------------------------------------------------------------- fetching


def test_a_folder_or_a_server_gives_the_file(serve, tmp_path):
    server = serve({"toy/input.txt": DATA["input.txt"]})
    for number, mirror in enumerate([server.url, str(server.folder), f"{server.folder}/toy"]):
        (path,) = fetch_dataset(entry(files=DATA), [mirror], tmp_path / str(number), **QUICK)
        assert path.read_bytes() == DATA["input.txt"]
        assert os.listdir(path.parent) == ["input.txt"]


def test_what_is_there_is_not_fetched_again(serve, tmp_path):
    server = serve(DATA)
    for _ in range(2):
        fetch_dataset(entry(files=DATA), [server.url], tmp_path / "raw", **QUICK)
    assert len(server.asked) == 2  # once below the name of the data set (404), once above it


def test_a_damaged_file_is_fetched_again(serve, tmp_path):
    server = serve(DATA)
    (path,) = fetch_dataset(entry(files=DATA), [server.url], tmp_path / "raw", **QUICK)
    path.write_bytes(DATA["input.txt"][:-1])
    fetch_dataset(entry(files=DATA), [server.url], tmp_path / "raw", **QUICK)
    assert path.read_bytes() == DATA["input.txt"]


def test_missing_on_one_mirror_found_on_the_next(serve, tmp_path):
    empty, good = serve({"other": b""}), serve(DATA)
    toy = entry(files=DATA, urls=[good.url + "/"])
    (path,) = fetch_dataset(toy, [empty.url], tmp_path / "raw", **QUICK)
    assert path.read_bytes() == DATA["input.txt"] and empty.asked and good.asked


def test_a_dropped_connection_goes_on_where_it_stopped(serve, tmp_path):
    server = serve(DATA, drop_first=1)
    toy = entry(files=DATA, urls=[server.url])
    (path,) = fetch_dataset(toy, [], tmp_path / "raw", **QUICK)
    assert path.read_bytes() == DATA["input.txt"]
    (_, first), (_, second) = server.asked
    # The server sent half; at most one chunk of it was lost.
    assert first is None and 150_000 - CHUNK <= int(second[len("bytes=") : -1]) <= 150_000


def test_a_server_without_ranges_starts_anew(serve, tmp_path):
    server = serve(DATA, drop_first=1, ranges=False)
    (path,) = fetch_dataset(entry(files=DATA, urls=[server.url]), [], tmp_path / "raw", **QUICK)
    assert path.read_bytes() == DATA["input.txt"]


@pytest.mark.parametrize("wrong", [b"something else", DATA["input.txt"][:-1]])
def test_a_wrong_or_truncated_file_is_refused_and_named(serve, tmp_path, wrong):
    server = serve({"input.txt": wrong})
    with pytest.raises(FetchError, match=r"input.txt of the data set toy.*checksum") as caught:
        fetch_dataset(entry(files=DATA, urls=[server.url]), [], tmp_path / "raw", **QUICK)
    assert "mirrors" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "raw").exists()


def test_of_a_users_own_file_the_checksum_is_said_and_not_the_network(tmp_path):
    (tmp_path / "input.txt").write_bytes(b"mine")
    with pytest.raises(FetchError) as caught:
        fetch_dataset(entry(files=DATA, urls=[]), [str(tmp_path)], tmp_path / "raw", **QUICK)
    said = str(caught.value)
    assert f"in config/datasets.yaml but {md5(b'mine')})" in said
    assert "correct its checksum in config/datasets.yaml" in said and "network" not in said


def test_no_network_is_one_sentence_and_leaves_nothing(tmp_path):
    toy = entry(files=DATA, urls=["http://127.0.0.1:9/"])
    with pytest.raises(FetchError, match=r"no connection.*Connect to the network"):
        fetch_dataset(toy, [str(tmp_path / "nowhere")], tmp_path / "raw", **QUICK)
    assert not (tmp_path / "raw").exists()


def fetched(server, tmp_path, files=DATA, mirrors=()) -> bytes:
    toy = entry(files=files, urls=[server.url])
    return fetch_dataset(toy, mirrors, tmp_path / "raw", **QUICK)[0].read_bytes()


@pytest.mark.parametrize("header", [{}, {"Content-Encoding": "gzip", "Content-Type": "x"}])
def test_a_file_is_stored_as_it_was_published(serve, tmp_path, header):
    """Some servers take the ending .gz for an encoding of their own."""
    packed = {"input.txt.gz": gzip.compress(DATA["input.txt"])}
    server = serve(packed, headers=header, drop_first=1)
    assert fetched(server, tmp_path, packed) == packed["input.txt.gz"]
    assert server.encodings == {"identity"}


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_what_a_server_encodes_all_the_same_is_decoded(serve, tmp_path, name, encode):
    coded = {"input.txt": encode(DATA["input.txt"])}
    server = serve(coded, headers={"Content-Encoding": name}, drop_first=1)
    assert fetched(server, tmp_path) == DATA["input.txt"]
    assert os.listdir(tmp_path / "raw") == ["input.txt"]


def test_an_encoding_that_is_none_is_a_wrong_checksum(serve, tmp_path):
    server = serve({"input.txt": b"no gzip"}, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchError, match="checksum is not the one"):
        fetched(server, tmp_path)


@pytest.fixture
def pauses(monkeypatch):
    found = []
    monkeypatch.setattr("replica.data.fetch.time.sleep", found.append)
    return found


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_answers_that_may_change_are_asked_for_again(serve, tmp_path, pauses, status):
    server = serve(DATA, refusals=[(status, {}), (status, {})])
    assert fetched(server, tmp_path) == DATA["input.txt"]
    assert len(server.asked) == 3 and pauses == [0.01, 0.02]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("7", 7.0), ("0", 0.0), ("86400", 60.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
     ("Wed, 21 Oct 2215 07:28:00 GMT", 60.0), ("soon", 0.01), ("nan", 0.01)],
)  # fmt: skip
def test_a_server_says_how_long_to_wait(serve, tmp_path, pauses, asked, waited):
    server = serve(DATA, refusals=[(429, {"Retry-After": asked})])
    assert fetched(server, tmp_path) == DATA["input.txt"]
    assert pauses == [waited]


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "HTTP status 403 Forbidden"), (404, "HTTP status 404 Not Found"), (410, "HTTP status 410 Gone"),
     (401, "HTTP status 401 Unauthorized"), (204, "HTTP status 204 No Content"),
     (304, "HTTP status 304 Not Modified"), (499, "HTTP status 499")],
)  # fmt: skip
def test_other_answers_lead_to_the_next_source_at_once(serve, tmp_path, pauses, status, words):
    first, good = serve(DATA, refusals=[(status, {})] * 3), serve(DATA)
    toy = entry(files=DATA, urls=[first.url, good.url])
    (path,) = fetch_dataset(toy, [], tmp_path / "raw", **QUICK)
    assert path.read_bytes() == DATA["input.txt"] and len(first.asked) == 1 and not pauses
    with pytest.raises(FetchError) as caught:
        fetch_dataset(entry(files=DATA, urls=[first.url]), [], tmp_path / "other", **QUICK)
    assert f"input.txt ({words})" in str(caught.value)


def test_each_source_has_the_reason_of_its_last_try(serve, tmp_path, pauses):
    late = serve(DATA, refusals=[(503, {}), (503, {}), (403, {})])
    gone, wrong = serve({"other": b""}), serve({"input.txt": b"<html>Sign in</html>"})
    (tmp_path / "mirror/input.txt").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"x")
    mirrors = [str(tmp_path / "mirror"), str(tmp_path / "file")]
    toy = entry(files=DATA, urls=[late.url, gone.url, "http://127.0.0.1:9", wrong.url])
    with pytest.raises(FetchError) as caught:
        fetch_dataset(toy, mirrors, tmp_path / "raw", **QUICK)
    assert re.findall(r"(\S+)/input.txt \((.*?)\)", str(caught.value)) == [
        (f"{mirrors[0]}/toy", "no such file"), (mirrors[0], "not a file"),
        (f"{mirrors[1]}/toy", "not a directory"), (mirrors[1], "not a directory"),
        (late.url, "HTTP status 403 Forbidden"), (gone.url, "HTTP status 404 Not Found"),
        ("http://127.0.0.1:9", "no connection"),
        (wrong.url, "its checksum is not the one in config/datasets.yaml"),
    ]  # fmt: skip


def test_a_beginning_survives_mirrors_that_do_not_have_the_file(serve, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/input.txt.part").write_bytes(DATA["input.txt"][:1000])
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/input.txt").write_bytes(b"another")
    server = serve(DATA)
    mirrors = [str(tmp_path / "nowhere"), str(tmp_path / "mirror")]
    assert fetched(server, tmp_path, mirrors=mirrors) == DATA["input.txt"]
    assert server.asked == [("/input.txt", "bytes=1000-")]


@pytest.mark.parametrize("length", [1000, 300_000, 400_000])
def test_a_wrong_beginning_is_thrown_away(serve, tmp_path, length):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/input.txt.part").write_bytes(bytes(length))
    assert fetched(serve(DATA), tmp_path) == DATA["input.txt"]


def test_a_folder_that_may_not_be_read_leads_to_the_next(tmp_path, monkeypatch):
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "input.txt").write_bytes(DATA["input.txt"])
    true_open = open

    def guarded(path, *args, **kwargs):
        if str(path).startswith(str(tmp_path / "closed")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return true_open(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", guarded)
    closed, good = str(tmp_path / "closed"), str(tmp_path / "open")
    (path,) = fetch_dataset(entry(files=DATA), [closed, good], tmp_path / "raw", **QUICK)
    assert path.read_bytes() == DATA["input.txt"]
    with pytest.raises(FetchError, match=r"closed/input.txt \(permission denied\)"):
        fetch_dataset(entry(files=DATA), [closed], tmp_path / "other", **QUICK)


def test_a_full_disk_names_the_target(serve, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/input.txt.part").symlink_to("/dev/full")
    toy = entry(files=DATA, urls=[serve(DATA).url])
    with pytest.raises(
        CannotWrite, match=r"raw/input.txt.part: no space left on device; make room"
    ):
        fetch_dataset(toy, [], tmp_path / "raw", **QUICK)


def test_redirections_without_end(serve, tmp_path, pauses):
    server = serve(DATA, refusals=[(302, {"Location": "/input.txt"})] * 40)
    with pytest.raises(FetchError, match=r"input.txt \(too many redirects\)"):
        fetched(server, tmp_path)
    server = serve(DATA, refusals=[(302, {"Location": "ftp://x/input.txt"})])
    with pytest.raises(FetchError, match="neither http nor https"):
        fetched(server, tmp_path)


def test_no_answer_and_a_name_that_nobody_knows(tmp_path, pauses, monkeypatch):
    known = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        toy = entry(files=DATA, urls=[url, "http://nowhere.invalid"])
        with pytest.raises(FetchError) as caught:
            fetch_dataset(toy, [], tmp_path / "raw", pause=0.01, timeout=0.1)
    assert f"{url}/input.txt (no answer in time)" in str(caught.value)
    assert "nowhere.invalid/input.txt (no connection, its name could not be res" in str(
        caught.value
    )


def test_a_certificate_that_is_not_accepted(tmp_path, pauses, monkeypatch):
    def get(*_, **__):
        raise requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")

    monkeypatch.setattr(requests, "get", get)
    toy = entry(files=DATA, urls=["https://127.0.0.1"])
    with pytest.raises(FetchError, match=r"\(its TLS certificate was not accepted\)"):
        fetch_dataset(toy, [], tmp_path / "raw", **QUICK)
    assert not pauses


def test_addresses_of_the_registry_may_be_folders(tmp_path, monkeypatch):
    (tmp_path / "input.txt").write_bytes(DATA["input.txt"])
    monkeypatch.setenv("HOME", str(tmp_path))
    for url in (f"file://{tmp_path}/", "~", f"{tmp_path}/./"):
        toy = entry(files=DATA, urls=[url])
        assert toy.urls == [str(tmp_path)]
        fetch_dataset(toy, [], tmp_path / "raw", **QUICK)


def test_the_receipt_says_what_was_fetched(tmp_path):
    (tmp_path / "input.txt").write_bytes(DATA["input.txt"])
    facts = {"checksum": md5(DATA["input.txt"]), "bytes": 300_000}
    expected = {"dataset": "toy", "files": {"input.txt": facts}}
    assert receipt(entry(files=DATA), [tmp_path / "input.txt"]) == expected


# ------------------------------------------------------------------------------ preparing


def test_idx_files(tmp_path):
    files = {
        "train-images.gz": idx(IMAGES[:, 0]),
        "train-labels.gz": idx(LABELS.astype(np.uint8)),
    }
    data = prepared(tmp_path, "idx", files, classes=3)
    np.testing.assert_array_equal(data.arrays["train.images"], IMAGES[:, :1])
    np.testing.assert_array_equal(data.arrays["train.labels"], LABELS)
    assert isinstance(data.arrays["train.images"], np.memmap)
    facts = data.card["splits"]["train"]
    assert facts["class_counts"] == [2, 2, 2]
    assert facts["mean"][0] == pytest.approx(IMAGES[:, 0].mean())
    assert facts["std"][0] == pytest.approx(IMAGES[:, 0].std())


def cifar(batch: bytes, checksum: str | None = None):
    return {"c.tar.gz": tar({"c/batch": batch})}, {"train": {"c/batch": checksum or md5(batch)}}


def test_cifar_archive(tmp_path):
    batch = pickle.dumps({b"data": IMAGES.reshape(6, -1), b"labels": LABELS.tolist()})
    files, members = cifar(batch)
    data = prepared(tmp_path, "cifar", files, classes=3, members=members)
    np.testing.assert_array_equal(data.arrays["train.images"], IMAGES)
    np.testing.assert_array_equal(data.arrays["train.labels"], LABELS)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_an_unknown_pickle_is_never_opened(tmp_path):
    planted = tmp_path / "planted"
    files, members = cifar(pickle.dumps(Trap(planted)), md5(b"the batch that was meant"))
    with pytest.raises(DataError, match="was not opened"):
        prepared(tmp_path, "cifar", files, classes=3, members=members)
    assert not planted.exists()


def test_svhn_files(tmp_path):
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, {"X": IMAGES.transpose(2, 3, 1, 0), "y": np.array([10, 1, 2, 10, 1, 2])[:, None]})
    data = prepared(tmp_path, "svhn", {"train_32x32.mat": out.getvalue()}, classes=3)
    np.testing.assert_array_equal(data.arrays["train.images"], IMAGES)
    np.testing.assert_array_equal(data.arrays["train.labels"], LABELS)


def test_imdb_archive(tmp_path):
    members = {}
    for split, name, i in itertools.product(("train", "test"), ("neg", "pos"), (0, 2, 10)):
        members[f"aclImdb/{split}/{name}/{i}_7.txt"] = f"{split} {name} {i}".encode()
    data = prepared(tmp_path, "imdb", {"a.tar.gz": tar(members)}, classes=2)
    text, offsets = data.arrays["test.text"], data.arrays["test.offsets"]
    reviews = [bytes(text[a:b]).decode() for a, b in itertools.pairwise(offsets)]
    assert reviews == [f"test {name} {i}" for name in ("neg", "pos") for i in (0, 2, 10)]
    assert data.arrays["test.labels"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("column", ["img", "image"])
def test_image_table(tmp_path, column):
    rows = [{"bytes": png(image), "path": None} for image in IMAGES]
    pd.DataFrame({column: rows, "label": LABELS}).to_parquet(tmp_path / "t.parquet")
    files = {"train.parquet": (tmp_path / "t.parquet").read_bytes()}
    data = prepared(tmp_path, "image_table", files, classes=3)
    np.testing.assert_array_equal(data.arrays["train.images"], IMAGES)


def test_text_table_and_text_file(tmp_path):
    pd.DataFrame({"text": ["ä", "", "b"], "label": [0, 1, 1]}).to_parquet(tmp_path / "t.parquet")
    files = {"train.parquet": (tmp_path / "t.parquet").read_bytes()}
    data = prepared(tmp_path, "text_table", files, classes=2)
    assert data.arrays["train.offsets"].tolist() == [0, 2, 2, 3]
    data = prepared(tmp_path, "text_file", {"input.txt": b"to be"})
    assert bytes(data.arrays["train.text"]) == b"to be"


def test_image_folder(tmp_path):
    members = {f"set/{name}/{i}.png": png(IMAGES[i]) for i, name in enumerate(["b", "a"])}
    data = prepared(tmp_path, "image_folder", {"train.tar.gz": tar(members)}, classes=2)
    np.testing.assert_array_equal(data.arrays["train.images"], IMAGES[[1, 0]])


def jpeg(size: tuple[int, int], shade: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, shade if mode == "L" else (shade,) * len(mode)).save(out, "jpeg")
    return out.getvalue()


def test_a_folder_of_photographs(tmp_path):
    """Any size and colour; a class left out, a stray file, and a share held out of each class."""
    counts = {"b_cat": 7, "a_dog": 11, "background": 3}
    members = {
        f"Caltech/{name}/image_{i:04}.jpg": jpeg((20 + i, 30), 10 * i, "CMYK" if i == 3 else "RGB")
        for name, count in counts.items() for i in range(count)
    }  # fmt: skip
    members |= {
        "Caltech/b_cat/notes.txt": b"no image",
        "Caltech/a_dog/grey.jpg": jpeg((9, 9), 77, "L"),
    }
    own = {"size": 16, "held_out": 0.3, "pattern": "*.jpg", "without": ["background"]}
    data = prepared(tmp_path, "image_folder", {"set.tar.gz": tar(members)}, classes=2, **own)
    train, test = data.arrays["train.images"], data.arrays["test.images"]
    # int(0.3 n_c) of each class, in the order of the sorted names: 12 dogs, 7 cats.
    assert np.bincount(data.arrays["test.labels"]).tolist() == [int(0.3 * 12), int(0.3 * 7)]
    assert train.shape == (14, 3, 16, 16) and len(test) == 5
    assert (train[:, 0] == train[:, 1]).mean() > 0.9


def test_weights_of_a_network(tmp_path):
    import torch

    state = {"conv.weight": torch.randn(2, 3), "norm.num_batches_tracked": torch.tensor(7)}
    torch.save(state, tmp_path / "w.pth")
    data = prepared(tmp_path, "weights", {"w.pth": (tmp_path / "w.pth").read_bytes()})
    np.testing.assert_array_equal(data.arrays["weights.conv.weight"], state["conv.weight"])
    assert np.array(data.arrays["weights.norm.num_batches_tracked"]) == 7


def test_weights_run_no_code(tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/ran",))

    torch.save({"x": Evil()}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="does not hold the parameters of a network"):
        prepared(tmp_path, "weights", {"w.pth": (tmp_path / "w.pth").read_bytes()})
    assert not (tmp_path / "ran").exists()


def test_missing_weights_say_what_to_put_where(tmp_path, root):
    entry = load_registry(root / "config/datasets.yaml")["resnet18_imagenet"]
    here = entry.model_copy(update={"urls": [str(tmp_path / "nowhere")]})
    with pytest.raises(FetchError) as error:
        fetch_dataset(here, [str(tmp_path / "mirror")], tmp_path / "raw", **QUICK)
    words = str(error.value)
    assert "resnet18-f37072fd.pth of the data set resnet18_imagenet" in words
    assert "put the file into a folder and name that folder under `mirrors`" in words


def test_corrupted_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    members = {"CIFAR-10-C/fog.npy": npy(images), "CIFAR-10-C/labels.npy": npy(np.arange(10) % 2)}
    data = prepared(tmp_path, "corrupted_cifar", {"c.tar": tar(members)}, classes=2)
    np.testing.assert_array_equal(data.arrays["fog.images"], images.transpose(0, 3, 1, 2))
    assert len(data.arrays["test.labels"]) == 10
    with pytest.raises(DataError, match=r"does not hold labels\.npy and a file for each"):
        prepared(tmp_path, "corrupted_cifar", {"c.tar": tar({"a/labels.npy": npy(np.arange(2))})},
                 classes=2)  # fmt: skip


def test_embedded_sets(tmp_path, root):
    registry = load_registry(root / "config/datasets.yaml")
    digits = load(prepare_dataset(registry["digits"], tmp_path, tmp_path / "digits"))
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.card["splits"]["train"]["class_counts"] == counts
    topics = load(prepare_dataset(registry["topics"], tmp_path, tmp_path / "topics"))
    assert len(topics.arrays["train.text"]) > 400_000


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path, name):
    (tmp_path / "sub").mkdir()
    archive = tmp_path / "sub" / "a.tar.gz"
    archive.write_bytes(tar({"good": b"x", name: b"evil"}))
    with pytest.raises(DataError, match="outside"), unpacked(archive, tmp_path):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar.gz", "sub"]


def test_an_archive_does_not_say_who_may_read_what(tmp_path):
    """A folder that is closed to its owner, and a file that all may change and run."""
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, kind, mode in [("a", tarfile.DIRTYPE, 0), ("a/x", tarfile.REGTYPE, 0o4777)]:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.size = kind, mode, 3 * (kind == tarfile.REGTYPE)
            file.addfile(member, io.BytesIO(b"abc") if member.size else None)
    with unpacked(tmp_path / "a.tar", tmp_path) as folder:
        assert (folder / "a/x").read_bytes() == b"abc"
        assert not (folder / "a/x").stat().st_mode & 0o4111
        assert (folder / "a").stat().st_mode & 0o700 == 0o700


def test_an_archive_cannot_hold_links(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(link)
    with (
        pytest.raises(DataError, match="neither a file nor a folder"),
        unpacked(tmp_path / "a.tar", tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [([0, 0, 2], 3, r"class 1 has no samples"), ([0, 0, 0], 1, "at least two classes"),
     ([0, 1, 5], 3, "says 3 classes")],
)  # fmt: skip
def test_labels_must_fit(tmp_path, labels, classes, words):
    labels = np.array(labels, np.uint8)
    files = {"train-images.gz": idx(IMAGES[:3, 0]), "train-labels.gz": idx(labels)}
    with pytest.raises(DataError, match=words):
        prepared(tmp_path, "idx", files, classes=classes)


def test_a_damaged_prepared_set_is_named(tmp_path):
    prepared(tmp_path, "text_file", {"input.txt": b"to be or not"})
    card, file = tmp_path / "prepared/card.json", tmp_path / "prepared/train.text.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=r"train.text.npy.*delete"):
        verify(card)
    file.write_bytes(content[:-3])
    with pytest.raises(CorruptArtifact, match=r"train.text.npy.*delete"):
        load(card)


def test_a_damaged_download_is_not_prepared(tmp_path):
    (tmp_path / "input.txt").write_bytes(b"other")
    with pytest.raises(DataError, match="missing or damaged"):
        prepare_dataset(entry(files={"input.txt": b"meant"}), tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"kind": "csv"}, "'csv'"), ({"files": {"../x": "md5:" + "0" * 32}}, "files"),
     ({"files": {"x": "crc:1"}}, "match pattern"), ({"file": {}}, "did you mean files")],
)  # fmt: skip
def test_a_bad_registry_is_named(tmp_path, change, words):
    import yaml

    good = {"title": "t", "kind": "text_file", "licence": "l", "files": {"x": "md5:" + "0" * 32}}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"toy": good | change}))
    with pytest.raises(ConfigError, match=words) as caught:
        load_registry(tmp_path / "d.yaml")
    assert "d.yaml: toy" in str(caught.value)


# ------------------------------------------------------------------------- the real files


def real(name, real_data, root, tmp_path, serve_from):
    registry = load_registry(root / "config/datasets.yaml")
    raw = tmp_path / "raw"
    fetch_dataset(registry[name], [serve_from], raw, **QUICK)
    return load(prepare_dataset(registry[name], raw, tmp_path / "out"))


@pytest.mark.slow
def test_real_mnist(real_data, root, tmp_path):
    server = Server(real_data)
    data = real("mnist", real_data, root, tmp_path, server.url)
    server.shutdown()
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.card["splits"]["train"]["class_counts"] == counts
    assert data.card["splits"]["train"]["mean"][0] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert data.card["splits"]["train"]["std"][0] / 255 == pytest.approx(0.3081, abs=1e-4)
    with gzip.open(real_data / "mnist/train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    np.testing.assert_array_equal(data.arrays["train.images"].ravel(), pixels)


def test_real_texts(real_data, root, tmp_path):
    data = real("tinyshakespeare", real_data, root, tmp_path, str(real_data))
    assert len(data.arrays["train.text"]) == 1_115_394
    data = real("imdb_table", real_data, root, tmp_path / "imdb", str(real_data / "imdb"))
    assert data.card["splits"]["test"]["class_counts"] == [12500, 12500]


def test_a_copy_from_a_folder_shows_no_progress_of_an_unknown_size(tmp_path, capsys):
    source, target = tmp_path / "a.bin", tmp_path / "a.part"
    source.write_bytes(bytes(3 * 2**20))
    copy(source, target, md5(source.read_bytes()))
    assert target.read_bytes() == source.read_bytes() and capsys.readouterr().err == ""
