"""Data of a user are read whole, or refused in one sentence that names file, place and remedy."""

import importlib
import io
import itertools
import platform
import struct

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data_files import IMAGES, LABELS, entry, idx, npy, parquet, png, prepared, saved, tar, zipped
from replica.configuration import ConfigError
from replica.data.images import rgb
from replica.data.prepare import READERS, DataError, load, prepare_dataset
from replica.data.registry import DatasetEntry, load_registry, split_of_files
from replica.provenance import code_digest


def refusal(tmp_path, kind, files, **more) -> str:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, kind, files, **more)
    words = str(caught.value)
    assert "\n" not in words and words.endswith(".")
    return words


def texts_of(data, split="train") -> list[str]:
    text, offsets = data.array(f"{split}.text"), data.array(f"{split}.offsets")
    return [bytes(text[a:b]).decode() for a, b in itertools.pairwise(offsets)]


def table(*texts, labels=None) -> bytes:
    return parquet(text=list(texts), label=labels or [i % 2 for i in range(len(texts))])


# ------------------------------------------------------------------------------ splits


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"],
         ["train", "train", "test"]),
        (["mydata_test.parquet", "mydata_train.parquet"], ["test", "train"]),
        (["reviews-test-1.parquet", "Training.parquet"], ["test", "train"]),
        (["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"], ["train", "test"]),
        (["latest.parquet"], ["train"]),
        (["train_32x32.mat", "test_32x32.mat"], ["train", "test"]),
    ],
)  # fmt: skip
def test_the_words_of_a_name_say_its_split(names, splits):
    toy = entry("text_table", dict.fromkeys(names, b""))
    assert list(split_of_files(toy).items()) == list(zip(names, splits, strict=True))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train.parquet", "validation.parquet", "test.parquet"], "validation.parquet looks like a validation"),
        (["train.parquet", "my_dev.parquet"], "my_dev.parquet looks like a validation file"),
        (["a.parquet", "b.parquet"], "the name a.parquet stands for no split"),
        (["train.parquet", "contest.parquet"], "the name contest.parquet stands for no split"),
        (["train_and_test.parquet"], "train_and_test.parquet stands for more than one split"),
    ],
)  # fmt: skip
def test_a_name_without_a_split_is_refused(tmp_path, names, words):
    said = refusal(tmp_path, "text_table", dict.fromkeys(names, table("a", "b")), classes=2)
    assert words in said and "splits" in said


def test_splits_of_the_registry_win_over_names(tmp_path):
    files = {
        "b.parquet": table("b", "c"),
        "val.parquet": table("d", "e"),
        "train.parquet": table("a", "z"),
    }
    splits = {"train": ["val.parquet", "b.parquet"], "test": ["train.parquet"]}
    data = prepared(tmp_path, "text_table", files, classes=2, splits=splits)
    assert texts_of(data) == ["d", "e", "b", "c"] and texts_of(data, "test") == ["a", "z"]


@pytest.mark.parametrize(
    ("splits", "words"),
    [({"train": ["a.parquet"]}, "b.parquet is in no split"),
     ({"train": ["a.parquet", "b.parquet", "c.parquet"]}, "c.parquet, which is not in files"),
     ({"train": ["a.parquet", "b.parquet"], "test": ["a.parquet"]}, "names a.parquet twice"),
     ({"test": ["a.parquet", "b.parquet"]}, "has no split train")],
)  # fmt: skip
def test_splits_name_each_file_once(tmp_path, splits, words):
    files = {"a.parquet": table("a", "b"), "b.parquet": table("c", "d")}
    assert words in refusal(tmp_path, "text_table", files, classes=2, splits=splits)


def test_a_bad_split_stops_when_the_registry_is_read(tmp_path):
    files = "\n".join(f"    {name}.parquet: md5:{'0' * 32}" for name in ("train", "validation"))
    text = f"toy:\n  title: t\n  kind: text_table\n  licence: l\n  files:\n{files}\n"
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"d.yaml: toy: validation.parquet .* `splits`"):
        load_registry(tmp_path / "d.yaml")


def test_shards_are_joined_in_the_order_of_the_registry(tmp_path):
    files = {"train-00001-of-00002.parquet": table("c", "d"), "train-00000-of-00002.parquet": table("a", "b"),
             "test-00000-of-00001.parquet": table("e", "f")}  # fmt: skip
    data = prepared(tmp_path, "text_table", files, classes=2)
    assert texts_of(data) == ["c", "d", "a", "b"] and texts_of(data, "test") == ["e", "f"]
    assert data.array("train.labels").tolist() == [0, 1, 0, 1]


def test_shards_of_images_are_joined(tmp_path):
    rows = [{"bytes": png(image), "path": ""} for image in IMAGES]
    files = {
        f"train-{i}.parquet": parquet(image=rows[i : i + 3], label=LABELS[i : i + 3])
        for i in (0, 3)
    }
    data = prepared(tmp_path, "image_table", files, classes=3)
    np.testing.assert_array_equal(data.array("train.images"), IMAGES)


def idx_files(**arrays) -> dict[str, bytes]:
    return {f"{name.replace('_', '-')}.gz": idx(a.astype(np.uint8)) for name, a in arrays.items()}


def test_idx_files_belong_together_by_their_order(tmp_path):
    pixels = IMAGES[:, 0]
    files = idx_files(train_labels_1=LABELS[:2], train_images_1=pixels[:2], train_images_2=pixels[2:],
                      train_labels_2=LABELS[2:])  # fmt: skip
    data = prepared(tmp_path, "idx", files, classes=3)
    np.testing.assert_array_equal(data.array("train.images")[:, 0], pixels)
    np.testing.assert_array_equal(data.array("train.labels"), LABELS)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train_images": IMAGES[:3, 0], "train_labels": LABELS}, "train-images.gz has 3 images, but 6 labels"),
        ({"train_images": IMAGES[:, 0]}, "1 of images and 0 of labels"),
        ({"train_images": IMAGES[:, 0], "train_labels": LABELS, "test_labels": LABELS}, "test needs a file"),
        ({"train_a": IMAGES[:, 0], "train_b": LABELS, "test_a": IMAGES[:, 0, :9], "test_b": LABELS},
         "have the shape (1, 32, 32), those of"),
        ({"train_images": IMAGES, "train_labels": LABELS}, "one dimension (labels) or three (images)"),
    ],
)  # fmt: skip
def test_idx_files_that_do_not_fit_each_other(tmp_path, arrays, words):
    assert words in refusal(tmp_path, "idx", idx_files(**arrays), classes=3)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\0\0\x0d\x01" + struct.pack(">if", 1, 1.0), "begins with 00 00 0d 01"),
     (b"\0\0\x08\x01" + struct.pack(">i", 9) + b"abc", "says that it holds 9 bytes, and holds 3"),
     (b"\x1f\x8bno gzip", "is damaged"), (b"", "begins with nothing")],
)  # fmt: skip
def test_broken_idx_files(tmp_path, data, words):
    assert words in refusal(tmp_path, "idx", {"train-labels": data}, classes=2)


# ------------------------------------------------------------------------------ labels


def labelled_texts(label, **more):
    return {"train.parquet": parquet(text=["a", "b", "c", "d"], label=label), **more}


@pytest.mark.parametrize(
    ("label", "numbers"),
    [
        ([0, 1, 1, 0], [0, 1, 1, 0]),
        ([0.0, 1.0, 1.0, 0.0], [0, 1, 1, 0]),
        ([False, True, True, False], [0, 1, 1, 0]),
        (pa.array([1, 0, 0, 1], pa.uint8()), [1, 0, 0, 1]),
        (pa.array([1, 0, 0, 1], pa.float16()), [1, 0, 0, 1]),
        (["pos", "neg", "neg", "pos"], [1, 0, 0, 1]),
        (pa.array(["pos", "neg", "neg", "pos"], pa.large_string()), [1, 0, 0, 1]),
        (pa.array(["pos", "neg", "neg", "pos"]).dictionary_encode(), [1, 0, 0, 1]),
        (pa.array([5, 3, 3, 5], pa.int8()).dictionary_encode(), None),
    ],
)
def test_labels_of_any_type_that_is_whole(tmp_path, label, numbers):
    if numbers is None:
        said = refusal(tmp_path, "text_table", labelled_texts(label), classes=2)
        assert "row 0 (counted from 0): the label 5 is not in 0..1" in said.replace(
            "np.int64(5)", "5"
        )
        return
    data = prepared(tmp_path, "text_table", labelled_texts(label), classes=2)
    assert data.array("train.labels").tolist() == numbers
    assert data.array("train.labels").dtype == np.int64


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([0.0, 1.0, 0.9, 1.2], "column label, row 2 (counted from 0): the label 0.9 is not a whole number"),
        ([0.0, float("nan"), 1.0, 1.0], "row 1 (counted from 0): the label nan"),
        ([0.0, float("inf"), 1.0, 1.0], "row 1 (counted from 0): the label inf"),
        ([0, 1, None, 1], "column label, row 2 (counted from 0): there is no label"),
        ([False, True, True, None], "row 3 (counted from 0): there is no label"),
        (["neg", None, "pos", "pos"], "row 1 (counted from 0): there is no label"),
        (["neg", "pos", "", "pos"], "row 2 (counted from 0): there is no label"),
        (pa.array([None] * 4), "row 0 (counted from 0): there is no label"),
        ([0, 1, -1, 1], "row 2 (counted from 0): the label -1 is not in 0..1"),
        ([0, 1, 2, 1], "the label 2 is not in 0..1: config/datasets.yaml says 2 classes"),
        ([[0], [1], [1], [0]], "labels must be whole numbers or words, not of type list"),
        (pa.array([2**64 - 1, 0, 1, 1], pa.uint64()), "row 0 (counted from 0): the label 18446744073709551615"),
        ([0, 0, 0, 0], "the class 1 has no samples in train"),
        (["a", "b", "c", "a"], "says 2 classes, but train.parquet has 3: 'a', 'b', 'c'"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_named(tmp_path, label, words):
    said = refusal(tmp_path, "text_table", labelled_texts(label), classes=2)
    assert words in said and ("train.parquet" in said or "toy: the class" in said)


def test_names_of_classes_are_numbered_alike_in_all_splits(tmp_path):
    test = parquet(text=["x", "y"], label=pa.array(["pos", "neg"]).dictionary_encode())
    files = labelled_texts(["neg", "pos", "pos", "neg"], **{"test.parquet": test})
    data = prepared(tmp_path, "text_table", files, classes=2)
    assert data.card["classes"] == ["neg", "pos"]
    assert data.array("test.labels").tolist() == [1, 0]
    data = prepared(tmp_path, "text_table", files, classes=["pos", "neg"])
    assert data.card["classes"] == ["pos", "neg"] and data.K == 2
    assert data.array("test.labels").tolist() == [0, 1]
    assert data.array("train.labels").tolist() == [1, 0, 0, 1]


def test_names_that_train_does_not_have(tmp_path):
    test = parquet(text=["x", "y", "z"], label=["pos", "neg", "neutral"])
    files = labelled_texts(["neg", "pos", "pos", "neg"], **{"test.parquet": test})
    said = refusal(tmp_path, "text_table", files, classes=2)
    assert "test.parquet (test), row 2 (counted from 0): the label 'neutral' is none" in said
    assert "'neg', 'pos'" in said
    said = refusal(tmp_path, "text_table", files, classes=["neg", "pos", "neutral"])
    assert "the class 'neutral' has no samples in train" in said


def test_names_and_numbers_do_not_mix(tmp_path):
    test = parquet(text=["x", "y"], label=[0, 1])
    files = labelled_texts(["neg", "pos", "pos", "neg"], **{"test.parquet": test})
    assert "are words, those of" in refusal(tmp_path, "text_table", files, classes=2)


def test_names_of_the_registry_stand_on_the_card_beside_numbers(tmp_path):
    data = prepared(tmp_path, "text_table", labelled_texts([0, 1, 1, 0]), classes=["no", "yes"])
    assert data.card["classes"] == ["no", "yes"]
    said = refusal(tmp_path, "text_table", labelled_texts([0, 0, 0, 0]), classes=["no", "yes"])
    assert "the class 'yes' has no samples in train" in said


def test_labels_without_a_number_of_classes(tmp_path):
    assert "under `classes`" in refusal(tmp_path, "text_table", labelled_texts([0, 1, 1, 0]))


# ------------------------------------------------------------------------------ tables


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]
)
def test_texts_of_any_type(tmp_path, kind):
    column = pa.array(["ä", "b"], pa.string()).cast(kind)
    data = prepared(
        tmp_path, "text_table", {"train.parquet": parquet(text=column, label=[0, 1])}, classes=2
    )
    assert texts_of(data) == ["ä", "b"]


def test_texts_of_a_dictionary(tmp_path):
    column = pa.array(["ä", "b"]).dictionary_encode()
    data = prepared(
        tmp_path, "text_table", {"train.parquet": parquet(text=column, label=[0, 1])}, classes=2
    )
    assert texts_of(data) == ["ä", "b"]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array(["a", None]), "column text, row 1 (counted from 0): there is no text"),
        (pa.array([b"a", b"x\xe4"]), "row 1 (counted from 0): byte 1 (counted from 0) is 0xe4"),
        (pa.array([1, 2]), "column text: texts must be strings, not int64"),
        (pa.array([["a"], ["b"]]), "column text: texts must be strings, not list"),
    ],
)
def test_texts_that_are_none(tmp_path, column, words):
    assert words in refusal(
        tmp_path, "text_table", {"train.parquet": parquet(text=column, label=[0, 1])}, classes=2
    )


PICTURES = [png(IMAGES[0]), png(IMAGES[1])]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(PICTURES), pa.array(PICTURES, pa.large_binary()), pa.array(PICTURES).dictionary_encode(),
        pa.array([{"bytes": p, "path": "p"} for p in PICTURES]),
    ],
)  # fmt: skip
def test_pictures_as_bytes_or_records(tmp_path, column):
    data = prepared(
        tmp_path, "image_table", {"train.parquet": parquet(image=column, label=[0, 1])}, classes=2
    )
    np.testing.assert_array_equal(data.array("train.images"), IMAGES[:2])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([PICTURES[0], None]), "column image, row 1 (counted from 0): there is no image"),
        (pa.array([{"bytes": PICTURES[0]}, None]), "column image, row 1 (counted from 0): there is no image"),
        (pa.array([{"bytes": PICTURES[0]}, {"bytes": None}]), "row 1 (counted from 0): there is no image"),
        (pa.array([{"path": "a.png"}, {"path": "b.png"}]), "records need a field `bytes`"),
        (pa.array(["a.png", "b.png"]), "images must be bytes, not string"),
        (pa.array([[1, 2], [3, 4]]), "images must be bytes, not list"),
        (pa.array([PICTURES[0], b"no image"]), "row 1 (counted from 0) holds an image that cannot be decoded"),
        (pa.array([PICTURES[0], PICTURES[1][:200]]), "row 1 (counted from 0) holds an image that cannot be"),
        (pa.array([PICTURES[0], png(IMAGES[0, :, :9])]), "row 1 (counted from 0) has 32 x 9 pixels"),
    ],
)  # fmt: skip
def test_pictures_that_are_none(tmp_path, column, words):
    files = {"train.parquet": parquet(image=column, label=[0, 1])}
    assert words in refusal(tmp_path, "image_table", files, classes=2)


@pytest.mark.parametrize(("kind", "column"), [("image_table", "image"), ("text_table", "text")])
def test_tables_without_rows_or_columns_or_that_are_none(tmp_path, kind, column):
    empty = parquet(**{column: pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    assert "has no rows" in refusal(tmp_path, kind, {"train.parquet": empty}, classes=2)
    assert "it has a, b" in refusal(
        tmp_path, kind, {"train.parquet": parquet(a=[1], b=[2])}, classes=2
    )
    assert "cannot be read as a Parquet table" in refusal(
        tmp_path, kind, {"train.parquet": b"text,label\n"}, classes=2
    )


# ------------------------------------------------------------------------------ folders


def pets(*names: str) -> dict[str, bytes]:
    return {
        name: png(IMAGES[0]) if name.lower().endswith(("png", "jpg")) else b"x" for name in names
    }


ANIMALS = ("cat/1.png", "cat/2.png", "dog/1.png")


@pytest.mark.parametrize("around", ["", "pets/", "a/b/"])
@pytest.mark.parametrize("pack", [zipped, tar])
def test_one_archive_with_a_folder_a_split(tmp_path, around, pack):
    members = {f"{around}train/{n}": png(IMAGES[i]) for i, n in enumerate(ANIMALS)}
    members |= {f"{around}test/{n}": png(IMAGES[i + 3]) for i, n in enumerate(ANIMALS)}
    data = prepared(tmp_path, "image_folder", {"pets.zip": pack(members)}, classes=2)
    for split, first in [("train", 0), ("test", 3)]:
        np.testing.assert_array_equal(data.array(f"{split}.images"), IMAGES[first : first + 3])
        assert data.array(f"{split}.labels").tolist() == [0, 0, 1]
    assert data.card["classes"] == ["cat", "dog"]


def test_an_archive_a_split(tmp_path):
    files = {
        "test_set.zip": zipped(pets(*ANIMALS)),
        "train.zip": zipped(pets(*(f"x/{n}" for n in ANIMALS[1:]))),
    }
    data = prepared(tmp_path, "image_folder", files, classes=2)
    assert data.array("train.labels").tolist() == [0, 1]
    assert data.array("test.labels").tolist() == [0, 0, 1]


@pytest.mark.parametrize("pattern", [None, "*", "*.png", "*.PNG"])
def test_what_systems_leave_does_not_count(tmp_path, pattern):
    hidden = ["__MACOSX/._pets", "__MACOSX/pets/cat/._1.png", ".DS_Store", "pets/.ipynb_checkpoints/1.png",
              "pets/cat/.DS_Store", "pets/cat/._1.png", "pets/cat/Thumbs.db", "pets/desktop.ini",
              "pets/dog/Desktop.ini", "pets/dog/.ipynb_checkpoints/1-checkpoint.png"]  # fmt: skip
    members = pets(*hidden, *(f"pets/{n}" for n in ANIMALS), "pets/README.txt")
    data = prepared(
        tmp_path, "image_folder", {"pets.zip": zipped(members)}, classes=2, pattern=pattern
    )
    assert data.card["splits"]["train"]["class_counts"] == [2, 1]


def test_endings_in_upper_case_and_backslashes(tmp_path):
    members = pets("cat\\1.PNG", "dog\\2.png", "dog\\notes.txt")
    data = prepared(tmp_path, "image_folder", {"pets.zip": zipped(members)}, classes=2)
    assert data.array("train.labels").tolist() == [0, 1]


def test_folders_in_folders_of_classes(tmp_path):
    files = {"pets.zip": zipped(pets("cat/1.png", "cat/old/2.png", "dog/1.png"))}
    said = refusal(tmp_path, "image_folder", files, classes=2)
    assert "the class 'cat' holds the folder old" in said and "without" in said
    for setting, counts in [
        ({"without": ["old"]}, [1, 1]),
        ({"pattern": "**/*"}, [2, 1]),
        ({"pattern": "*"}, [1, 1]),
    ]:
        data = prepared(tmp_path, "image_folder", files, classes=2, **setting)
        assert data.card["splits"]["train"]["class_counts"] == counts


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train": ["cat/1.png", "dog/1.png"], "test": ["cat/1.png", "Dog/1.png"]}, "'Dog' only here and 'dog' only in"),
        ({"train": ["cat/1.png", "dog/1.png"], "test": ["cat/1.png", "horse/1.png"]}, "'horse' only here and 'dog'"),
        ({"train": ["cat/1.png", "dog/1.png"], "test": ["cat/1.png"]}, "needs a folder for each of two or more"),
        ({"train": ["cat/1.png", "dog/1.png", "emu/a.txt"]}, "the class 'emu' has no samples in train"),
        ({"test": ["cat/1.png", "dog/1.png"]}, "has no split train: there is only test"),
        ({"pets": ["cat/1.png", "cat/2.png"]}, "what there is: cat"),
        ({"pets": ["1.png", "2.png"]}, "what there is: 1.png, 2.png"),
        ({"pets": []}, "what there is: nothing"),
        ({"pets": ["train_images/1.png", "test_images/2.png"]}, "needs a folder for each of two or more"),
        ({"pets": ["train/1.png", "test/2.png", "more/3.png"]}, "the folder more is neither"),
        ({"pets": ["train/1.png", "test/2.png"]}, "needs a folder for each of two or more classes"),
        ({"pets": ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"]}, "the folder val is neither"),
        ({"pets": ["train/cat/1.png", "train/dog/1.png", "more/cat/1.png"]}, "the folder more is neither"),
        ({"train": ["test/cat/1.png", "test/dog/1.png"]}, "is train by config/datasets.yaml or its name"),
        ({"pets": ["cat/1.png", "dog/1.png", "stray.png"]}, "holds stray.png beside the folders"),
    ],
)  # fmt: skip
def test_folders_that_do_not_fit(tmp_path, files, words):
    archives = {f"{name}.zip": zipped(pets(*members)) for name, members in files.items()}
    classes = 3 if "emu" in words else 2
    assert words in refusal(tmp_path, "image_folder", archives, classes=classes)


@pytest.mark.parametrize("names", [["bus", "train"], ["cat", "test_tube", "train_station"]])
def test_a_class_may_be_called_train(tmp_path, names):
    members = pets(*(f"{name}/1.png" for name in names))
    data = prepared(tmp_path, "image_folder", {"a.zip": zipped(members)}, classes=len(names))
    assert data.card["classes"] == names


def test_held_out_needs_train_and_no_test(tmp_path):
    train, test = zipped(pets(*ANIMALS)), zipped(pets(*ANIMALS))
    for files in ({"train.zip": train, "test.zip": test}, {"test.zip": test}):
        assert "holds a test split" in refusal(
            tmp_path, "image_folder", files, classes=2, held_out=0.5
        )


def encrypted() -> bytes:
    data = bytearray(zipped(pets(*ANIMALS)))
    for magic, place in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)]:
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            data[at + place] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "begins like 7z"),
        (b"Rar!\x1a\x07" + bytes(50), "begins like RAR"),
        (b"<html>not here</html>", "neither a zip nor a tar archive"),
        (b"", "neither a zip nor a tar archive"),
        (zipped(pets(*ANIMALS))[:-30], "is a damaged archive"),
        (tar(pets(*ANIMALS))[:-300], "is a damaged archive"),
        (tar(pets(*ANIMALS), "w")[:2000], "is a damaged archive"),
        (encrypted(), "is encrypted"),
    ],
)
def test_archives_that_cannot_be_opened(tmp_path, data, words):
    said = refusal(tmp_path, "image_folder", {"pets.zip": data}, classes=2)
    assert words in said and "pets.zip" in said


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    members = pets(*ANIMALS, "dog/x.zip") | {"dog/z.zip": zipped(pets("a/1.png", "b/1.png"))}
    data = prepared(tmp_path, "image_folder", {"pets.tar": tar(members, "w")}, classes=2)
    assert data.card["classes"] == ["cat", "dog"]


def test_files_that_cannot_be_written_to_are_unpacked_elsewhere(tmp_path):
    files = {"pets.zip": zipped(pets(*ANIMALS))}
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "pets.zip").write_bytes(files["pets.zip"])
    (tmp_path / "out/.unpacked-left").mkdir(parents=True)
    raw.chmod(0o555)
    prepare_dataset(entry("image_folder", files, classes=2), raw, tmp_path / "out")
    raw.chmod(0o755)
    assert [path.name for path in raw.iterdir()] == ["pets.zip"]
    assert not list((tmp_path / "out").glob(".unpacked-*"))


# ------------------------------------------------------------------------------ pixels


def reread(image: Image.Image, kind: str = "png", **more) -> np.ndarray:
    with Image.open(io.BytesIO(saved(image, kind, **more))) as opened:
        return np.asarray(rgb(opened))


DEEP = np.array([[0, 255, 256, 511], [32767, 32768, 65279, 65535]], np.uint16)


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_of_16_bits_the_upper_8_stay(kind):
    expected = np.array([[0, 0, 1, 1], [127, 128, 254, 255]])
    np.testing.assert_array_equal(reread(Image.fromarray(DEEP), kind), np.stack([expected] * 3, -1))


def test_grey_and_coloured_pictures_of_16_bits_agree():
    """Pillow takes the upper 8 bits of colours by itself."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in DEEP)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(np.asarray(rgb(opened)), reread(Image.fromarray(DEEP)))


@pytest.mark.parametrize("values", [np.ones((2, 2), np.float32), np.full((2, 2), 70000, np.int32)])
def test_pixels_without_a_white_are_refused(tmp_path, values):
    column = [saved(Image.fromarray(values), "tiff")] * 2
    said = refusal(
        tmp_path, "image_table", {"train.parquet": parquet(image=column, label=[0, 1])}, classes=2
    )
    assert "column image, row 0" in said and "save it with 8 or 16 bits" in said


def test_what_is_transparent_is_laid_over_white():
    half, none, full = (255, 0, 0, 128), (9, 9, 9, 0), (0, 0, 255, 255)
    image = Image.new("RGBA", (3, 1))
    image.putdata([half, none, full])
    expected = [[[255, 127, 127], [255, 255, 255], [0, 0, 255]]]
    assert reread(image).tolist() == expected
    grey = Image.new("LA", (2, 1))
    grey.putdata([(10, 0), (10, 255)])
    assert reread(grey).tolist() == [[[255] * 3, [10] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([1, 2, 3, 4, 5, 6])
    palette.putdata([0, 1])
    assert reread(palette).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert reread(palette, transparency=1).tolist() == [[[1, 2, 3], [255] * 3]]
    assert reread(palette, "gif", transparency=0).tolist() == [[[255] * 3, [4, 5, 6]]]
    deep = Image.fromarray(DEEP)
    assert reread(deep, transparency=511)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_other_kinds_of_colours():
    assert reread(Image.new("1", (1, 1), 1)).tolist() == [[[255] * 3]]
    assert reread(Image.new("L", (1, 1), 7)).tolist() == [[[7] * 3]]
    assert reread(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "tiff").tolist() == [[[255, 0, 0]]]


def test_of_several_pictures_the_first():
    first, second = Image.new("L", (1, 1), 10), Image.new("L", (1, 1), 200)
    out = io.BytesIO()
    first.save(out, "gif", save_all=True, append_images=[second])
    with Image.open(out) as opened:
        assert np.asarray(rgb(opened)).tolist() == [[[10] * 3]]


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_photographs_stand_upright_unless_the_registry_says_otherwise(tmp_path, kind):
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise: what is left comes to the top
    picture = saved(image, kind, exif=exif)
    files = {"train.parquet": parquet(image=[picture, picture], label=[0, 1])}
    turned = prepared(tmp_path, "image_table", files, classes=2).array("train.images")
    assert turned.shape == (2, 3, 32, 16)
    assert turned[0, :, :14].min() > 240 and turned[0, :, 18:].max() < 15
    stored = prepared(tmp_path, "image_table", files, classes=2, orientation="as stored")
    assert stored.array("train.images").shape == (2, 3, 16, 32)


def test_damaged_notes_in_a_photograph_are_no_traceback(tmp_path):
    notes = PngInfo()
    notes.add(b"eXIf", b"Exif\0\0 no notes at all")
    column = [saved(Image.new("L", (2, 2)), pnginfo=notes)] * 2
    files = {"train.parquet": parquet(image=column, label=[0, 1])}
    try:
        prepared(tmp_path, "image_table", files, classes=2)
    except DataError as error:
        assert "column image, row 0" in str(error)


def test_pictures_that_unpack_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    files = {"train.parquet": parquet(image=PICTURES, label=[0, 1])}
    said = refusal(tmp_path, "image_table", files, classes=2)
    assert "row 0 (counted from 0) is an image of more than 200 pixels" in said


def matlab(X, y) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, {"X": X, "y": y})
    return out.getvalue()


BATCH = np.zeros((32, 32, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (matlab(BATCH.astype(np.float64), [10, 1, 10, 1]), "pixels must be bytes (uint8) of the shape (32, 32, 3, any)"),
        (matlab(BATCH[:28], [10, 1, 10, 1]), "not uint8 of the shape (28, 32, 3, 4)"),
        (matlab(BATCH, [10, 1, 10, 11]), "row 3 (counted from 0): the label 11 is not in 0..1"),
        (matlab(BATCH, [10, 1.5, 10, 1]), "array y, row 1 (counted from 0): the label 1.5"),
        (matlab(BATCH, [10, 1, 10]), "has 4 images, but 3 labels"),
        (b"MATLAB 7.3", "cannot be read as a MATLAB file"),
    ],
)  # fmt: skip
def test_svhn_files_that_are_none(tmp_path, data, words):
    said = refusal(tmp_path, "svhn", {"train.mat": data}, classes=2)
    assert words in said


PIXELS = np.zeros((10, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"c/fog.npy": npy(PIXELS / 255.0), "c/labels.npy": npy(np.arange(10) % 2)}, "fog.npy in"),
        ({"c/fog.npy": npy(PIXELS[:5]), "c/labels.npy": npy(np.arange(10) % 2)}, "of the shape (10, any, any, any)"),
        ({"c/fog.npy": npy(PIXELS), "c/labels.npy": npy(np.arange(10) / 2)}, "the label 0.5 is not a whole number"),
        ({"c/fog.npy": npy(PIXELS), "d/fog.npy": npy(PIXELS), "c/labels.npy": npy(np.arange(10) % 2)}, "fog.npy twice"),
        ({"c/fog.npy": b"no array", "c/labels.npy": npy(np.arange(10) % 2)}, "cannot be read"),
        ({"c/fog.npy": npy(PIXELS[:7]), "c/labels.npy": npy(np.arange(7) % 2)}, "7 labels are not as many for each of the 5 severities"),
    ],
)  # fmt: skip
def test_corrupted_images_that_are_none(tmp_path, members, words):
    assert words in refusal(tmp_path, "corrupted_cifar", {"c.tar": tar(members)}, classes=2)


# ------------------------------------------------------------------------------ weights


def pth(value) -> dict[str, bytes]:
    import torch

    out = io.BytesIO()
    torch.save(value, out)
    return {"w.pth": out.getvalue()}


def test_weights_that_numpy_does_not_know_become_float32(tmp_path):
    import torch

    values = torch.tensor([[1.5, -2.25], [0.0, 3e38]])
    state = {"a": values.bfloat16(), "b": values[:1].to(torch.float8_e4m3fn), "c": values.half()}
    data = prepared(tmp_path, "weights", pth(state))
    np.testing.assert_array_equal(data.array("weights.a"), values.bfloat16().float())
    np.testing.assert_array_equal(data.array("weights.b"), [[1.5, -2.25]])
    kinds = [str(data.array(f"weights.{name}").dtype) for name in "abc"]
    assert kinds == ["float32", "float32", "float16"]


def test_weights_that_are_none_are_named(tmp_path):
    import torch

    w = torch.eye(2)
    for value, words in [
        (
            {"state_dict": {"a": w}},
            "state_dict is not a tensor but dict: save model.state_dict() alone",
        ),
        ({"a": w, "epoch": 3}, "epoch is not a tensor but int"),
        ({"a": w.to_sparse()}, "a is sparse, quantised or complex"),
        ({"a": w.to(torch.complex64)}, "a is sparse, quantised or complex"),
        ({"../a": w}, "'../a' is not the name of a parameter"),
        ({3: w}, "3 is not the name of a parameter"),
        ([w], "but list: save model.state_dict()"),
        ({}, "but dict: save model.state_dict()"),
    ]:
        assert words in refusal(tmp_path, "weights", pth(value))
    for data in (b"", b"PK\x03\x04", b"\x80\x02."):
        assert "does not hold the parameters of a network" in refusal(
            tmp_path, "weights", {"w.pth": data}
        )


# ------------------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("für".encode("latin-1"), "input.txt: byte 1 (counted from 0) is 0xfc, which is not UTF-8"),
        ("to be".encode("utf-16"), "input.txt: byte 0 (counted from 0) is 0xff"),
        ("to be".encode("utf-16-le"), "input.txt: byte 1 (counted from 0) is 0x00"),
        (b"", "input.txt is empty"),
        (b"\xef\xbb\xbf", "input.txt is empty"),
    ],
)
def test_texts_that_are_not_utf8(tmp_path, data, words):
    assert words in refusal(tmp_path, "text_file", {"input.txt": data})


def test_marks_and_line_breaks_of_texts(tmp_path):
    text = "\ufeffä\r\nb\rc\n\r\n\ufeff"
    data = prepared(tmp_path, "text_file", {"input.txt": text.encode()})
    assert texts_of(data) == ["ä\nb\nc\n\n\ufeff"]


def test_texts_have_splits_too(tmp_path):
    data = prepared(
        tmp_path, "text_file", {"train.txt": b"a", "test.txt": b"b", "train2.txt": b"c"}
    )
    assert texts_of(data) == ["a", "c"] and texts_of(data, "test") == ["b"]


def test_the_bytes_of_tiny_shakespeare_stay(tmp_path, real_data):
    text = (real_data / "tinyshakespeare/input.txt").read_bytes()
    data = prepared(tmp_path, "text_file", {"input.txt": text})
    assert data.array("train.text").tobytes() == text


def test_reviews_that_are_not_utf8_or_not_there(tmp_path):
    members = {f"aclImdb/{s}/{f}/0_1.txt": b"x" for s in ("train", "test") for f in ("neg", "pos")}
    said = refusal(
        tmp_path,
        "imdb",
        {"a.tar.gz": tar(members | {"aclImdb/train/neg/1_2.txt": b"\xe4"})},
        classes=2,
    )
    assert "aclImdb/train/neg/1_2.txt: byte 0" in said
    assert "holds no texts" in refusal(
        tmp_path, "imdb", {"a.tar.gz": tar({"x/y.txt": b"x"})}, classes=2
    )


# ------------------------------------------------------------------------------ what comes along


def test_the_embedded_text_is_that_of_python_3_11_7(tmp_path, root):
    if platform.python_version() != "3.11.7":
        pytest.skip("the interpreter has another text")
    topics = importlib.import_module("pydoc_data.topics").topics
    own = load_registry(root / "config/datasets.yaml")["topics"]
    data = load(prepare_dataset(own, tmp_path, tmp_path / "out"))
    assert texts_of(data) == ["\n\n".join(topics[name] for name in sorted(topics))]


def test_the_embedded_digits_are_those_of_scikit_learn(tmp_path, root):
    theirs = pytest.importorskip(
        "sklearn.datasets", reason="compares with scikit-learn, which nothing else needs"
    ).load_digits()
    own = load_registry(root / "config/datasets.yaml")["digits"]
    data = load(prepare_dataset(own, tmp_path, tmp_path / "out"))
    np.testing.assert_array_equal(data.array("train.images")[:, 0], theirs.images)
    np.testing.assert_array_equal(data.array("train.labels"), theirs.target)


def test_embedded_data_have_a_checksum(tmp_path, root):
    registry = load_registry(root / "config/datasets.yaml")
    for name in ("digits", "topics", "topics_syntax"):
        other = registry[name].model_copy(update={"checksum": "sha256:" + "0" * 64})
        with pytest.raises(DataError, match="does not have the checksum"):
            prepare_dataset(other, tmp_path, tmp_path / name)
        assert not list((tmp_path / name).glob("*"))


# ------------------------------------------------------------------------------ card, registry


def test_the_card_holds_the_key_and_not_what_a_set_is_called(tmp_path):
    files = {"input.txt": b"to be"}
    one = entry(files=files)
    prepared(tmp_path, "text_file", files)
    for change in ({"title": "Other"}, {"licence": "other"}, {"urls": ["http://x"]}):
        other = one.model_copy(update=change)
        before = (tmp_path / "prepared/card.json").read_bytes()
        prepare_dataset(other, tmp_path / "raw", tmp_path / "prepared")
        assert (tmp_path / "prepared/card.json").read_bytes() == before
        assert other.what() == one.what()
    assert one.model_copy(update={"classes": 2}).what() != one.what()
    card = load(prepare_dataset(one, tmp_path / "raw", tmp_path / "prepared", "abc")).card
    assert card["key"] == "abc" and not {"title", "licence"} & set(card)


def test_what_a_data_set_does_not_hold_is_said(tmp_path):
    data = prepared(tmp_path, "text_file", {"input.txt": b"to be"})
    for wanted in (
        lambda: data.array("train.images"),
        lambda: data.inputs("train"),
        lambda: data.K,
    ):
        with pytest.raises(DataError, match=r"The data set toy has no train\.\w+, only train.text"):
            wanted()
    with pytest.raises(
        DataError, match=r"The data set prepared is not prepared: there is no .*none.json"
    ):
        load(tmp_path / "prepared/none.json")


def test_runs_say_that_a_data_set_is_of_another_kind(tmp_path, root):
    from replica.data import words
    from replica.data.splits import labelled, standardised
    from replica.models.headed_networks import training_samples

    texts = prepared(tmp_path, "text_table", labelled_texts([0, 1, 1, 0]), classes=2)
    digits = load_registry(root / "config/datasets.yaml")["digits"]
    images = load(prepare_dataset(digits, tmp_path, tmp_path / "digits"))
    for use, found, missing in [
        (lambda: training_samples(texts, None, None), "train.text", "train.images"),
        (lambda: labelled(texts, "train", 255), "train.text", "train.images"),
        (lambda: standardised(texts, 2), "train.text", "train.images"),
        (lambda: list(words.texts(images, "train")), "train.images", "train.text"),
    ]:
        with pytest.raises(DataError, match=rf"has no {missing}, only {found}"):
            use()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"kind": "svhn", "size": 3}, "size has no meaning for a data set of kind svhn"),
     ({"kind": "text_table", "held_out": 0.5}, "held_out has no meaning"),
     ({"kind": "imdb", "splits": {"train": ["x"]}}, "splits has no meaning"),
     ({"kind": "weights", "files": {"a": "md5:" + "0" * 32, "b": "md5:" + "0" * 32}}, "is one file, not 2"),
     ({"classes": [False, True]}, "classes: False is not a name; put the names of classes into quotes"),
     ({"classes": ["a", "a"]}, "two of the classes have the same name"),
     ({"urls": ["ftp://x/"]}, "only folders, file:// and http")],
)  # fmt: skip
def test_settings_that_fit_no_kind(tmp_path, change, words):
    import yaml

    good = {"title": "t", "kind": "text_file", "licence": "l", "files": {"x": "md5:" + "0" * 32}}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"toy": good | change}))
    with pytest.raises(ConfigError) as caught:
        load_registry(tmp_path / "d.yaml")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_each_kind_has_a_reader_of_its_own():
    kinds = DatasetEntry.model_fields["kind"].annotation.__args__
    assert set(READERS) == set(kinds)
    assert len({code_digest(reader) for reader in READERS.values()}) == len(kinds)
