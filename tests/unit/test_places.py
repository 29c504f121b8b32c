"""A place has one spelling, whatever the user wrote."""

import os
import pwd
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from replica import places
from replica.configuration import ConfigError
from replica.places import folder, normalised
from replica.settings.load import load_config
from replica.settings.user import Config

ME = pwd.getpwuid(os.getuid())


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("TILDE", "~")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("data", "data"),
        ("data/", "data"),
        ("./data", "data"),
        ("data//sets/.", "data/sets"),
        ("a/../data", "data"),
        ("../data", "../data"),
        (".", "."),
        ("/data/", "/data"),
        ("//data", "/data"),
        ("~", "/home/me"),
        ("~/data", "/home/me/data"),
        (f"~{ME.pw_name}/data", os.path.normpath(f"{ME.pw_dir}/data")),
        ("$SCRATCH/data", "/scratch/me/data"),
        ("${SCRATCH}_2", "/scratch/me_2"),
        ("$TILDE/data", "/home/me/data"),
        ("file:///data/sets", "/data/sets"),
        ("file://localhost/data", "/data"),
        ("FILE:///my%20data", "/my data"),
        ("file:data", "data"),
        ("my data/Übung/数据", "my data/Übung/数据"),
        ("./~", "./~"),
        ("./file:x", "./file:x"),
        ("./C:/x", "./C:/x"),
        ("a~b", "a~b"),
        ("https://a.org/sets/", "https://a.org/sets"),
        ("HTTP://a.org", "HTTP://a.org"),
    ],
)
def test_a_place_is_spelled_in_one_way(written, meant):
    assert normalised(written) == meant


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "got nothing"),
        ("  ", "got nothing"),
        ("$NOWHERE/x", "the variable NOWHERE is not set"),
        ("${NOWHERE}/x", "the variable NOWHERE is not set"),
        ("a$", "followed by the name of a variable"),
        ("${a b}", "followed by the name of a variable"),
        ("~nobody_has_this_name/x", "no such user"),
        ("file://other/x", "another machine"),
        ("s3://bucket/x", "only folders"),
        ("ftp://a.org/x", "only folders"),
        ("http://", "the server's name is missing"),
        ("http:///x", "the server's name is missing"),
        ("C:\\data", "Windows"),
        ("d:/data", "Windows"),
        ("\\\\server\\share", "Windows"),
        ("a\nb", "line break"),
        ("a\0b", "control"),
    ],
)
def test_what_is_no_place_is_refused(written, words):
    with pytest.raises(ValueError, match=words):
        normalised(written)


def test_a_folder_is_no_address_no_file_and_no_wildcard(tmp_path):
    (tmp_path / "file").write_text("")
    for written, words in [("http://a.org", "address"), (f"{tmp_path}/file/", "file"),
                           ("data{1}", "braces")]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            folder(written)
    assert folder(f"{tmp_path}//") == str(tmp_path)


def test_a_name_that_the_locale_cannot_write_is_refused(monkeypatch):
    monkeypatch.setattr(places.os, "fsencode", lambda path: path.encode("ascii"))
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(ValueError, match=r"\(ascii\) have no such character: set LC_ALL=C.UTF-8"):
        normalised("Übung")


PIECES = ["a", " ", ".", "..", "/", "//", "~", "root", "$SCRATCH", "${TILDE}", "file:", "C:", "\\",
          "http://", "é", "%7E", "%2F", ":", "%24"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("./~/x")
@example("file:///%7E")
def test_a_spelling_stays_when_it_is_read_again(written):
    try:
        place = normalised(written)
    except ValueError:
        assume(False)
    assert normalised(place) == place


@given(st.lists(st.sampled_from(["a", "b c", ".", "..", "é"]), min_size=1, max_size=6))
def test_the_spelling_means_the_same_folder(names):
    written = "/".join(names)
    assert os.path.abspath(normalised(written)) == os.path.abspath(written)
    for other in (f"./{written}", f"{written}/", written.replace("/", "//"), f"{written}/."):
        assert normalised(other) == normalised(written)


def test_the_configuration_holds_places():
    config = load_config({"data_dir": "~/d/", "pretrained_dir": "./m", "mirrors": "file:///x/"})
    assert (config.data_dir, config.pretrained_dir, config.mirrors) == ("/home/me/d", "m", ["/x"])
    assert Config.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ConfigError, match=r"^config/config.yaml: mirrors\.1 = 's3://x' is not al"):
        load_config({"mirrors": ["/x", "s3://x"]})
    with pytest.raises(ConfigError, match=r"data_dir = 'http://a\.org' is not allowed: it is an"):
        load_config({"data_dir": "http://a.org"})
