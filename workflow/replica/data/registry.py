"""The registry of data sets, `config/datasets.yaml`: what exists, where from, which checksum."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from replica.configuration import read_yaml
from replica.specs import Strict, validate

Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]
# A file name becomes a path below the data folder: it may not climb out of it.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class DatasetEntry(Strict):
    """One data set; see the head of `config/datasets.yaml` for the kinds."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    title: str
    kind: Literal[
        "digits", "topics", "passages", "cone", "mixture", "idx", "cifar", "svhn", "imdb",
        "text_file", "image_table", "text_table", "image_folder", "weights", "corrupted_cifar",
    ]  # fmt: skip
    licence: str
    classes: PositiveInt | None = Field(default=None, description="absent for unlabelled text")
    urls: list[str] = Field(default=[], description="official addresses, ending in a slash")
    files: dict[FileName, Checksum] = Field(default={}, description="file name -> checksum")
    members: dict[Literal["train", "test"], dict[str, Checksum]] = Field(
        default={}, description="pickles inside an archive, with their own checksums"
    )
    size: PositiveInt | None = Field(
        default=None, description="images of a folder are resized to this many pixels a side"
    )
    pattern: str = Field(default="*", description="files of a folder that count")
    without: list[str] = Field(default=[], description="folders of an archive that are left out")
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of each class of a folder that becomes the test split"
    )
    imbalance: Annotated[float, Field(ge=1)] = Field(
        default=1, description="largest class of a mixture over its smallest"
    )
    checksum: Checksum | None = Field(default=None, description="of embedded values")
    checksums: dict[str, Checksum] = Field(
        default={}, description="of embedded text, by Python version"
    )

    @model_validator(mode="after")
    def _files_fit_the_kind(self) -> "DatasetEntry":
        if self.kind in ("digits", "topics", "passages", "cone", "mixture"):
            if self.files:
                raise ValueError(f"an embedded data set ({self.kind}) has no files")
        elif not self.files:
            raise ValueError(f"a data set of kind {self.kind} needs files with checksums")
        if self.kind == "cifar" and not self.members:
            raise ValueError("the pickles of a cifar archive need checksums under members")
        return self


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
    return registry
