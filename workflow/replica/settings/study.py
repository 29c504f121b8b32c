"""The file of a study: its runs at each scale, its figures and its claims."""

import itertools
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from replica.kinds.base import Name, Strict
from replica.settings.validation import did_you_mean, shown

Scale = Literal["smoke", "laptop", "desktop", "paper"]
SCALES: tuple[str, ...] = get_args(Scale)
# The scale whose settings each one changes; the published settings change none.
CHANGES = {"smoke": "laptop", "laptop": "paper", "desktop": "paper", "paper": None}
# The scales whose large runs are meant for a GPU; at the others cores are enough.
ON_GPUS = ("paper",)
OFF_BY_DEFAULT = "is off by default, and made where extras names it"
Origin = Literal[
    "published",
    "official code",
    "second-hand",
    "follow-up code",
    "derived",
    "reconstructed",
    "suggested",
]
Status = Literal["published", "scaled", "reconstructed"]


class RunTemplate(Strict):
    """One run at the published settings, and what is different at the smaller scales.

    `desktop` and `laptop` change `paper`, `smoke` changes `laptop`; null leaves the run out there,
    and at the scale that changes it. Each run says what it is at `desktop`: {} is as published.
    `grid` in any of them makes one run per combination. `origin` says where each value of `paper`
    comes from.
    """

    paper: dict[str, Any]
    desktop: dict[str, Any] | None = Field(
        description="the settings that differ from paper, {} for those of paper, or null where "
        "the run is not made at desktop"
    )
    laptop: dict[str, Any] | None = Field(default={})
    smoke: dict[str, Any] | None = Field(default={})
    origin: dict[Origin, list[str]]

    @model_validator(mode="after")
    def _grids_are_lists(self) -> "RunTemplate":
        for scale in SCALES:
            if wrong := not_a_grid((getattr(self, scale) or {}).get("grid", {})):
                raise ValueError(f"{scale}.{wrong}")
        return self

    @model_validator(mode="after")
    def _every_value_has_an_origin(self) -> "RunTemplate":
        given = set(self.paper) | set(self.paper.get("grid", {}))
        named = list(itertools.chain.from_iterable(self.origin.values()))
        if missing := sorted(given - {"kind", "grid"} - set(named)):
            raise ValueError(f"origin does not say where these values come from: {missing}")
        if unknown := sorted(set(named) - given):
            raise ValueError(f"origin names keys that paper does not set: {unknown}")
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"origin names a key twice: {twice}")
        return self

    def settings(self, scale: str) -> dict[str, Any] | None:
        """The settings at a scale, the smaller ones laid over the larger; None: no such run."""
        layers: list[dict[str, Any] | None] = []
        while (larger := CHANGES[scale]) is not None:
            layers.append(getattr(self, scale))
            scale = larger
        merged = dict(self.paper)
        for layer in reversed(layers):
            if layer is None:
                return None
            # A grid over a key and a plain value of it exclude each other.
            if "grid" in merged and "grid" not in layer:
                merged["grid"] = {k: v for k, v in merged["grid"].items() if k not in layer}
            merged |= layer
        return merged


def not_a_grid(grid: Any) -> str:
    """What is wrong with a grid, in words; "" where it is one."""
    if not isinstance(grid, dict):
        return f"grid = {shown(grid)} must be keys with lists of values"
    wrong = [key for key, listed in grid.items() if not isinstance(listed, list) or not listed]
    return f"grid.{wrong[0]} must be a list with at least one value" if wrong else ""


class FigureSpec(Strict):
    """A figure: the runs that it needs, and what its caption says."""

    title: str
    shows: str = Field(description="what the paper shows there")
    place: str = Field(description="where it stands in the paper; empty if it is ours")
    runs: list[Name] = Field(default=[])
    about: list[Name] = Field(
        default=[],
        description="those of its runs without which there is no figure, if not all of them: the "
        "others are only compared with",
    )
    reconstructed: str = Field(
        default="", description="what no source settles, in words printed on the plot"
    )
    ours: bool = Field(default=False, description="the figure itself is reconstructed")
    extra: bool | list[Scale] = Field(
        default=False,
        description="made only where `extras` names it; a list of scales: at these",
    )


class AtLeast(Strict):
    """The least number that a setting must have."""

    at_least: float


class ClaimSpec(Strict):
    """A claim of the paper: its words, its source, and the figures whose tables decide it."""

    statement: str
    source: str
    figures: Annotated[list[Name], Field(min_length=1)]
    published: str = Field(description="the published number, or words")
    rule: str = Field(description="when the claim holds, fixed before the runs")
    rests_on: Literal["proof", "evidence"] = Field(
        description="a proof (an identity, a bound that was proven, a construction: our code is "
        "checked) or evidence of runs"
    )
    cannot_fail: str = Field(
        default="", description="why the check cannot fail on what runs here, if so"
    )
    needs: dict[str, list[Any] | AtLeast] = Field(
        default={},
        description="settings that a run must have to decide the claim, with the values that do, "
        "or the least one; `content` is that of its data set",
    )
    decided_by: str = Field(default="", description="what would decide it, if not a larger scale")


class StudySpec(Strict):
    """One paper."""

    study: Name
    title: str
    authors: str
    venue: str
    arxiv: str
    runs: dict[Name, RunTemplate] = Field(default={})
    figures: dict[Name, FigureSpec]
    claims: dict[Name, ClaimSpec]

    @model_validator(mode="after")
    def _references_exist(self) -> "StudySpec":
        for figure, spec in self.figures.items():
            for run in spec.runs:
                if run not in self.runs:
                    hint = did_you_mean(run, self.runs)
                    raise ValueError(f"figure {figure} names the unknown run {run!r}{hint}")
            if strangers := [run for run in spec.about if run not in spec.runs]:
                raise ValueError(f"figure {figure} is about {strangers[0]!r}, not one of its runs")
        for claim, words in self.claims.items():
            for figure in words.figures:
                if figure not in self.figures:
                    hint = did_you_mean(figure, self.figures)
                    raise ValueError(f"claim {claim} names the unknown figure {figure!r}{hint}")
        return self

    def why_off(self, figure: str, scale: str) -> str:
        """Why a figure is not made at a scale unless it is asked for; "" where it is made."""
        spec = self.figures[figure]
        needed = spec.about or spec.runs
        if needed and all(self.runs[run].settings(scale) is None for run in needed):
            return f"{figure} has no runs at this scale"
        off = scale in spec.extra if isinstance(spec.extra, list) else spec.extra
        return f"{figure} {OFF_BY_DEFAULT}" if off else ""

    def at(self, scale: str, extras: list[str]) -> "StudySpec":
        """This study at a scale: without the figures that are off there and no extras.

        Those without runs there are left out even if they are asked for.
        """

        def is_made(figure: str) -> bool:
            why = self.why_off(figure, scale)
            return not why or (figure in extras and why.endswith(OFF_BY_DEFAULT))

        figures = {name: spec for name, spec in self.figures.items() if is_made(name)}
        return self.model_copy(update={"figures": figures})
