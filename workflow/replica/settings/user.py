"""The user's file, `config/config.yaml`, and what the command line puts over it."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt

from replica.kinds.base import Name, Strict
from replica.places import Folder, Place
from replica.settings.study import SCALES, Scale

# The submission of a job is a line of shell: no character that means something there.
Plain = Annotated[str, Field(pattern=r"^[A-Za-z0-9_=:,./@%+ -]*$")]


# Folders, logs and jobs are called by it, below names of their own.
LONGEST_NAME = 60


class Cluster(Strict):
    """Where a Slurm cluster runs the jobs; empty values leave the choice to Slurm."""

    account: Plain = Field(default="", description="account that pays")
    partition: Plain = Field(default="", description="partition of jobs without a GPU")
    gpu_partition: Plain = Field(default="", description="partition of jobs with a GPU")
    gpu: Annotated[str, Field(pattern=r"^gpu(:[A-Za-z0-9_.]+)?:[1-9]\d*$")] = Field(
        default="gpu:1", description="what a job with a GPU asks for, e.g. gpu:a100:1"
    )
    extra: Plain = Field(default="", description="further options of sbatch, e.g. --qos=long")


def _listed(value: Any) -> Any:
    """One word stands for a list of it; `all` is a word of its own."""
    return [value] if isinstance(value, str) and value != "all" else value


Listed = BeforeValidator(_listed)


def _plain_name(name: str) -> str:
    """A name that can be part of a folder's, and is not mistaken for a scale."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ValueError("a name consists of letters, digits, - and _, and does not begin with -")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} characters")
    if name.lower() in SCALES or name.lower().startswith(tuple(f"{scale}-" for scale in SCALES)):
        raise ValueError(f"a name does not begin with that of a scale ({', '.join(SCALES)})")
    return name


VariantName = Annotated[str, AfterValidator(_plain_name)]


class Config(Strict):
    """`config/config.yaml`, and what `--config` puts over it."""

    scale: Scale = Field(default="laptop", description="smoke, laptop, desktop or paper")
    name: VariantName | None = Field(
        default=None, description="of these settings: results go to results/<scale>-<name>"
    )
    studies: Annotated[Annotated[list[Name], Field(min_length=1)] | Literal["all"], Listed] = Field(
        default="all", description="slugs of the studies to make, or all"
    )
    seeds: PositiveInt | None = Field(
        default=None, description="seeds of every run; each run's own number where null"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes a GPU where there is one"
    )
    jobs_per_gpu: PositiveInt = Field(
        default=4, description="small networks that train on one GPU at the same time"
    )
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(
        default=30.0, description="seconds between two checkpoints of a training"
    )
    cluster: Cluster = Cluster()
    data_dir: Folder = Field(default="data", description="downloads and prepared data sets")
    mirrors: Annotated[list[Place], Listed] = Field(
        default=[], description="folders or http(s) addresses tried before the official ones"
    )
    pretrained_dir: Folder | None = Field(
        default=None, description="folder with a folder for each pretrained language model"
    )
    extras: Annotated[list[Name], Listed] = Field(
        default=[], description="figures to make that are off by default"
    )
    overrides: dict[Name, dict[Name, dict[str, Any]]] = Field(
        default={}, description="study -> run -> key -> value, laid over the study's file"
    )

    @property
    def suffix(self) -> str:
        """What the name of these settings adds to that of a scale; "" where they have none."""
        return f"-{self.name}" if self.name else ""

    @property
    def label(self) -> str:
        """What the results of these settings are called, and their folder in `results`."""
        return self.scale + self.suffix


def scale_of(label: str) -> str:
    """The scale of results by what they are called."""
    return label.partition("-")[0]
