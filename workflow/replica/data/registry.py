"""The registry of data sets, `config/datasets.yaml`: what exists, where from, which checksum."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from replica.configuration import ConfigError, read_yaml
from replica.kinds.base import Strict
from replica.places import Place
from replica.settings.validation import validate

Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]
# A file name becomes a path below the data folder: it may not climb out of it.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
ClassName = Annotated[str, Field(min_length=1)]

# The reader of each kind, (entry, folder of the files, folder to unpack in) -> Content. By name, so
# that a digest of the code of one kind does not reach the others.
READERS = {
    "digits": "replica.data.builtin:digits",
    "topics": "replica.data.builtin:topics",
    "passages": "replica.data.builtin:passages",
    "cone": "replica.data.builtin:cone",
    "mixture": "replica.data.builtin:mixture",
    "idx": "replica.data.readers:idx",
    "cifar": "replica.data.readers:cifar",
    "svhn": "replica.data.readers:svhn",
    "imdb": "replica.data.texts:imdb",
    "text_file": "replica.data.texts:text_file",
    "image_table": "replica.data.tables:image_table",
    "text_table": "replica.data.tables:text_table",
    "image_folder": "replica.data.folders:image_folder",
    "weights": "replica.data.readers:weights",
    "corrupted_cifar": "replica.data.readers:corrupted_cifar",
}
EMBEDDED = ("digits", "topics", "passages", "cone", "mixture")
# What a file of these is in, its content says.
ONE_FILE = ("cifar", "imdb", "weights", "corrupted_cifar")
Content = Literal["photographs", "handwriting", "digits of 8x8 pixels", "text", "drawn", "unknown"]
# Kinds that read a setting; to the others it would be a word without effect.
READ_BY = {
    "members": ("cifar",),
    "splits": ("idx", "svhn", "text_file", "image_table", "text_table", "image_folder"),
    "size": ("image_table", "image_folder"),
    "orientation": ("image_table", "image_folder"),
    "pattern": ("image_folder",),
    "without": ("image_folder",),
    "held_out": ("image_folder",),
    "imbalance": ("mixture",),
    "checksum": ("digits", "topics", "passages"),
}


class DatasetEntry(Strict):
    """One data set; see the head of `config/datasets.yaml` for the kinds."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    title: str
    kind: Literal[
        "digits", "topics", "passages", "cone", "mixture", "idx", "cifar", "svhn", "imdb",
        "text_file", "image_table", "text_table", "image_folder", "weights", "corrupted_cifar",
    ]  # fmt: skip
    licence: str
    classes: PositiveInt | list[ClassName] | None = Field(
        default=None,
        description="how many, or their names in the order of their numbers; absent for "
        "unlabelled text",
    )
    urls: list[Place] = Field(default=[], description="official addresses, or folders")
    files: dict[FileName, Checksum] = Field(default={}, description="file name -> checksum")
    bytes: dict[FileName, PositiveInt] = Field(
        default={}, description="file name -> size in bytes, where it is known"
    )
    stands_in_for: str | None = Field(
        default=None,
        description="the data set whose place this one takes where a folder among the mirrors has "
        "this one and not that one",
    )
    splits: dict[Literal["train", "test"], list[FileName]] = Field(
        default={}, description="the files of each split; without it their names say it"
    )
    members: dict[Literal["train", "test"], dict[str, Checksum]] = Field(
        default={}, description="pickles inside an archive, with their own checksums"
    )
    size: PositiveInt | None = Field(
        default=None, description="images are resized to this many pixels a side"
    )
    orientation: Literal["upright", "as stored"] = Field(
        default="upright", description="whether photographs are turned as their EXIF says"
    )
    pattern: str | None = Field(
        default=None,
        description="files that count, below the folder of their class, in upper or lower case; "
        "without it all that have the ending of an image",
    )
    without: list[str] = Field(
        default=[], description="folders and files of an archive that are left out, by name"
    )
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of each class of a folder that becomes the test split"
    )
    imbalance: Annotated[float, Field(ge=1)] = Field(
        default=1, description="largest class of a mixture over its smallest"
    )
    checksum: Checksum | None = Field(default=None, description="of embedded values")
    content: Content = Field(
        default="unknown", description="what the samples are, for claims that are about that"
    )

    @property
    def K(self) -> int | None:
        """The number of classes; None where there are none."""
        return len(self.classes) if isinstance(self.classes, list) else self.classes

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes where the registry states them."""
        return self.classes if isinstance(self.classes, list) else None

    def what(self) -> dict[str, Any]:
        """What the data are: all settings but those that say where from and how it is called."""
        other = {"title", "licence", "urls", "content", "bytes", "stands_in_for"}
        return self.model_dump(mode="json", exclude=other)

    @model_validator(mode="before")
    @classmethod
    def _class_names_are_words(cls, values: Any) -> Any:
        # YAML reads no, yes, off and 1 as something else than the word that was meant.
        named = values.get("classes") if isinstance(values, dict) else None
        wrong = [n for n in named if not isinstance(n, str)] if isinstance(named, list) else []
        if wrong:
            raise ValueError(
                f"classes: {wrong[0]!r} is not a name; put the names of classes into quotes"
            )
        return values

    @model_validator(mode="after")
    def _settings_fit_the_kind(self) -> "DatasetEntry":
        if self.kind in EMBEDDED:
            if self.files:
                raise ValueError(f"an embedded data set ({self.kind}) has no files")
        elif not self.files:
            raise ValueError(f"a data set of kind {self.kind} needs files with checksums")
        if self.kind in ONE_FILE and len(self.files) > 1:
            raise ValueError(f"a data set of kind {self.kind} is one file, not {len(self.files)}")
        if self.kind == "cifar" and not self.members:
            raise ValueError("the pickles of a cifar archive need checksums under members")
        if unknown := sorted(set(self.bytes) - set(self.files)):
            raise ValueError(f"bytes names {unknown[0]}, which is not in files")
        if self.stands_in_for is not None and set(self.bytes) != set(self.files):
            raise ValueError("what stands in for another data set needs the bytes of all its files")
        for name, kinds in READ_BY.items():
            if self.kind not in kinds and getattr(self, name) != _default(name):
                raise ValueError(f"{name} has no meaning for a data set of kind {self.kind}")
        names = self.class_names or []
        if len(set(names)) < len(names):
            raise ValueError("two of the classes have the same name")
        return self


def _default(name: str) -> Any:
    return DatasetEntry.model_fields[name].default


# --------------------------------------------------------------------------------------
# Files and their splits

_WORDS = {
    "train": r"train(ing)?(set|data)?\d*",
    "test": r"test(ing)?(set|data)?\d*|t10k",
    "validation": r"val(id(ation)?)?(set|data)?\d*|dev(el(opment)?)?(set|data)?\d*",
}


def split_words(name: str) -> list[str]:
    """The splits (train, test, validation) that the words of a name stand for.

    A word is what lies between characters that are neither letters nor digits.
    """
    words = re.split(r"[\W_]+", name.lower())
    return [split for split, form in _WORDS.items() if any(re.fullmatch(form, w) for w in words)]


def split_of_files(entry: DatasetEntry) -> dict[str, str]:
    """The split of each file of a data set, in the order of the registry.

    As `splits` says; without it by the words of the file's name. A single file whose name says
    nothing is train.

    Raises:
        ConfigError: a file belongs to no split, to several, or to one that is not used.
    """
    say = "say which files are train and which test under `splits`"
    if entry.splits:
        found: dict[str, str] = {}
        for split, names in entry.splits.items():
            for name in names:
                if name not in entry.files:
                    raise ConfigError(f"{entry.name}: splits names {name}, which is not in files.")
                if name in found:
                    raise ConfigError(f"{entry.name}: splits names {name} twice.")
                found[name] = split
        if missing := [name for name in entry.files if name not in found]:
            raise ConfigError(
                f"{entry.name}: {missing[0]} is in no split: {say}, or take it out of files."
            )
        return {name: found[name] for split in entry.splits.values() for name in split}
    found = {}
    for name in entry.files:
        splits = split_words(name)
        if not splits and len(entry.files) == 1:
            splits = ["train"]
        if splits == ["validation"]:
            raise ConfigError(
                f"{entry.name}: {name} looks like a validation file, and there is no such "
                "split: take it out of files, or put it into train or test under `splits`."
            )
        if len(splits) != 1:
            sense = "more than one split" if splits else "no split"
            raise ConfigError(f"{entry.name}: the name {name} stands for {sense}: {say}.")
        found[name] = splits[0]
    return found


def card_path(data_dir: str, name: str) -> Path:
    """Where the card of a prepared data set lies."""
    return Path(data_dir, "prepared", name, "card.json")


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has the checksum `md5:...` or `sha256:...`."""
    kind, _, expected = checksum.partition(":")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == expected


def load_registry(path: Path | str) -> dict[str, DatasetEntry]:
    """Read the registry.

    Raises:
        ConfigError: one sentence with the file, the key, what was given and what is allowed.
    """
    entries = read_yaml(Path(path))
    registry = {}
    for name, entry in entries.items():
        fields = {"name": name, **entry} if isinstance(entry, dict) else entry
        registry[name] = validate(DatasetEntry, fields, f"{path}: {name}")
        if registry[name].kind in READ_BY["splits"]:
            try:
                split_of_files(registry[name])
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
    for entry in registry.values():
        if (original := entry.stands_in_for) is None:
            continue
        if original not in registry:
            raise ConfigError(
                f"{path}: {entry.name}: stands_in_for = {original!r} is not a data set in this "
                "file."
            )
        if (entry.content, entry.K) != (registry[original].content, registry[original].K):
            raise ConfigError(
                f"{path}: {entry.name}: it cannot stand in for {original}, which has another "
                "content or other classes."
            )
    return registry
