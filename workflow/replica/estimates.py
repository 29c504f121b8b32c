"""What a reproduction will take, before it runs: jobs, hours, memory, disk.

Hours follow from the work of each job (`replica.costs`) and the time of a unit of it: as measured
on this machine by `make bench` where it was, and as stated in `replica.costs` where it was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from replica import store
from replica.artifacts import read_stamp, read_table
from replica.costs import SECONDS_PER_UNIT, Work
from replica.data.registry import card_path
from replica.kinds import measuring_work
from replica.plan import Part, Plan, size_of, supply, whole_plan, words
from replica.settings.study import OFF_BY_DEFAULT, SCALES
from replica.settings.user import scale_of
from replica.verdicts import UNDECIDABLE

BENCHMARKS = "results/benchmarks.parquet"
# Results in the repository, see `replica.evidence`.
EVIDENCE, SCORECARD = Path("docs/evidence"), "scorecard.csv"
# The rows of benchmarks that are read here; their cases are keys of `SECONDS_PER_UNIT`.
UNIT_OF_WORK = "time of a unit of work"
BFLOAT16 = (
    "Mixed precision is bfloat16 here, and so are the hours; the minutes that jobs ask for are "
    "those of float32."
)
# Jobs that several studies need.
SHARED = "shared"
JOBS = ["study", "rule", "name", "kind", "gpu_hours", "cpu_hours", "mem_mb", "minutes"]
# What a job leaves beside its states (history, measures, log), and a figure (table, two drawings,
# its copy in the report), in bytes; means over the laptop scale.
BYTES_OF_A_JOB, BYTES_OF_A_FIGURE = 60_000, 600_000
# Of each data set, in MB: the files that are fetched, and the arrays that are made of them. Those
# that are embedded have next to nothing.
DATASET_MB = {
    "mnist": (12, 56), "cifar10": (170, 185), "cifar100": (169, 185), "svhn": (246, 306),
    "cifar10_jpeg": (19, 185), "imdb": (84, 66), "imdb_table": (21, 66),
    "tinyshakespeare": (1, 1), "caltech101": (137, 1307), "caltech256": (1184, 4610),
    "cifar10_c": (2918, 2920), "resnet18_imagenet": (47, 47),
}  # fmt: skip
EMBEDDED_MB = (0, 0.3)


@dataclass(frozen=True)
class Rates:
    """Seconds of a unit of work of each kind.

    Attributes:
        measured: of the kinds that were measured.
        device: where; empty where nothing was.
    """

    measured: Mapping[str, float] = field(default_factory=dict)
    device: str = ""

    def hours(self, work: Work) -> float:
        """The time of a job, with its start."""
        each = self.measured.get(work.kind, SECONDS_PER_UNIT[work.kind])
        return (work.amount * each + SECONDS_PER_UNIT["start"]) / 3600


def rates_of(root: Path) -> Rates:
    """The rates that `make bench` measured in a project; none where it was not run.

    Raises:
        CorruptArtifact: the table of benchmarks is damaged.
    """
    path = root / BENCHMARKS
    if not path.exists():
        return Rates()
    rows = read_table(path)
    rows = rows[(rows["quantity"] == UNIT_OF_WORK) & rows["case"].isin(list(SECONDS_PER_UNIT))]
    return Rates(dict(zip(rows["case"], rows["value"], strict=True)), read_stamp(path)["device"])


def job_table(plan: Plan, rates: Rates) -> pd.DataFrame:
    """One row a job of a whole reproduction.

    Returns:
        Columns `JOBS`: `kind` of its work; hours of a whole GPU, or of a core for a job without
        one; memory (MB) and minutes that it asks for on a cluster, NaN for jobs that never leave
        the machine of Snakemake.
    """
    rows, start, slots = [], Work("start", 0), plan.config.jobs_per_gpu

    def add(
        study: str, rule: str, name: str, work: Work, threads: int = 1, gpu_slots: int = 0,
        **asked: int,
    ) -> None:  # fmt: skip
        hours, share = rates.hours(work), min(gpu_slots, slots) / slots
        spent = {"gpu_hours": hours * share, "cpu_hours": 0.0 if share else hours * threads}
        job = {"study": study, "rule": rule, "name": name, "kind": work.kind}
        rows.append(job | spent | asked)

    for part in plan.parts.values():
        cost, study, stem = plan.cost(part), part.study, part.stem
        asked = plan.resources(part)
        needs = {"mem_mb": asked["mem_mb"], "minutes": asked["runtime"]}
        work = _as_computed_here(part, cost.work)
        add(study, part.rule, stem, work, cost.threads, gpu_slots=cost.gpu_slots, **needs)
        if plan.measured(part):
            # On a core, also where the training had a GPU.
            needs["minutes"] = asked["measuring"]
            work = _as_computed_here(part, measuring_work(part.spec))
            add(study, "measure_run", stem, work, **needs)
    for study in plan.with_networks():
        for group in plan.network_groups(study):
            cost = plan.generalization_cost(study, group)
            needs = {"mem_mb": cost.mem_mb, "minutes": cost.minutes}
            on_gpu = cost.gpu_slots
            add(study, "generalization", group, cost.work, cost.threads, gpu_slots=on_gpu, **needs)
    for study in plan.studies:
        for figure in plan.studies[study].figures:
            add(study, "figure_table", figure, start)
            add(study, "figure_plot", figure, start)
        add(study, "claims", study, start)
    for dataset in _datasets(plan):
        add(SHARED, "fetch_dataset", dataset, start)
        add(SHARED, "prepare_dataset", dataset, start)
    add(SHARED, "scorecard_table", SHARED, start)
    add(SHARED, "pages", SHARED, start)
    if plan.with_networks():
        add(SHARED, "correlations", SHARED, start)
    return pd.DataFrame(rows, columns=JOBS)


def _as_computed_here(part: Part, work: Work) -> Work:
    """The work of a job, in bfloat16 where it computes in that and this processor is fast in it."""
    kind = f"{work.kind} in bfloat16"
    half = getattr(part.classifier or part.spec, "precision", "") in ("mixed", "bfloat16")
    faster = kind in SECONDS_PER_UNIT and half and has_bfloat16()
    return replace(work, kind=kind) if faster else work


def hours_left(
    plan: Plan, rates: Rates, done: dict[tuple[str, str, str], bool | None]
) -> tuple[float, float]:
    """Hours of a whole GPU and of one core for the jobs that are not done.

    Args:
        done: (study, rule, name) -> True for those that are. States in the store are done, too.
    """
    jobs, done = job_table(plan, rates), done | dict.fromkeys(stored(plan), True)
    names = zip(jobs["study"], jobs["rule"], jobs["name"], strict=True)
    # Jobs that several studies share take seconds, and are not counted.
    left = jobs[[done.get(name, True) is not True for name in names]]
    return left["gpu_hours"].sum(), left["cpu_hours"].sum()


def stored(plan: Plan) -> list[tuple[str, str, str]]:
    """The jobs whose states are in the store: (study, rule, name), as in `job_table`."""
    folder = plan.root / store.FOLDER
    return [
        (part.study, part.rule, part.stem)
        for name, part in plan.parts.items()
        if (folder / plan.key("train", *name)).exists()
    ]


def with_deciding_runs(card: pd.DataFrame, root: Path, label: str) -> pd.DataFrame:
    """A scorecard that says of each undecided claim which runs would decide it, and their hours.

    Those of the next scale at which its figures have runs, none of them a stand-in, with the
    settings of the study's file; what the study's file says itself stays. A scale at which one of
    these figures is off, or whose results in the repository leave the claim undecided, does not
    decide it.

    Args:
        label: what the results are called, see `Config.label`.
    """
    rates, later = rates_of(root), SCALES[SCALES.index(scale_of(label)) + 1 :]
    unanswered = (card["verdict"] == UNDECIDABLE) & (card["decided_by"] == "")
    card = card.copy()
    for study, rows in card[unanswered].groupby("study", sort=False):
        for larger in later:
            plan = whole_plan(root, {"scale": larger, "studies": [str(study)]})
            jobs, claims = job_table(plan, rates), words.claim_specs(plan, str(study))
            for index, row in rows.iterrows():
                claim = claims.get(row["claim"])
                if claim is None or claim["stand_in"] or card.at[index, "decided_by"]:
                    continue
                runs = plan.parts_behind(str(study), claim["figures"])
                if not plan.off[str(study)].keys().isdisjoint(claim["figures"]):
                    continue
                if runs and not _is_left_open(plan, row, claim["figures"]):
                    said = _hours_of(plan, jobs, str(study), claim["figures"])
                    card.at[index, "decided_by"] = said
    return card


def _is_left_open(plan: Plan, row: pd.Series, figures: Sequence[str]) -> bool:
    """Whether the repository has all tables that a plan makes for a claim, and no verdict on it."""
    study, folder = row["study"], plan.root / EVIDENCE / plan.config.scale
    made = [figure for figure in figures if plan.parts_behind(study, [figure])]
    if not all((folder / study / f"figures/{figure}.parquet").exists() for figure in made):
        return False
    # It is written after the tables.
    if not (folder / SCORECARD).exists():
        return False
    card = pd.read_csv(folder / SCORECARD)
    same = (card["study"] == study) & (card["claim"] == row["claim"])
    return bool((card.loc[same, "verdict"] == UNDECIDABLE).any())


def _hours_of(plan: Plan, jobs: pd.DataFrame, study: str, figures: Sequence[str]) -> str:
    """The runs of some figures at the scale of a plan, in words."""
    spent = jobs[(jobs["study"] == study) & jobs["name"].isin(_stems(plan, study, figures))]
    return f"{', '.join(figures)} at the scale {plan.config.scale} ({_hours_in_words(spent)})"


def _stems(plan: Plan, study: str, figures: Sequence[str]) -> set[str]:
    """The jobs behind some figures, with those that they start from."""
    stems, todo = set(), plan.parts_behind(study, figures)
    while todo:
        part = todo.pop()
        stems.add(part.stem)
        todo += [other for other in (part.starts_from, part.previous_stage) if other is not None]
    return stems


def _hours_in_words(jobs: pd.DataFrame) -> str:
    hours = {"GPU": jobs["gpu_hours"].sum(), "core": jobs["cpu_hours"].sum()}
    listed = " and ".join(f"{h:.2g} {device} hours" for device, h in hours.items() if h >= 0.005)
    return listed or "minutes"


def extras_in_words(plan: Plan, rates: Rates) -> str:
    """The figures with runs that are off by default, and the hours that each would add."""
    off = {figure: study for study, figures in plan.off.items()
           for figure, why in figures.items() if why.endswith(OFF_BY_DEFAULT)}  # fmt: skip
    if not off:
        return ""
    asked = {"extras": [*plan.config.extras, *off]}
    whole = whole_plan(plan.root, plan.config.model_dump(mode="json") | asked)
    jobs, here = job_table(whole, rates), {(p.study, p.stem) for p in plan.parts.values()}
    listed = []
    for figure, study in off.items():
        if more := _stems(whole, study, [figure]) - {stem for s, stem in here if s == study}:
            spent = jobs[(jobs["study"] == study) & jobs["name"].isin(more)]
            listed.append(f"{figure} ({_hours_in_words(spent)})")
    return f"Off by default, made where extras names them: {', '.join(listed)}." if listed else ""


def study_table(jobs: pd.DataFrame) -> pd.DataFrame:
    """The jobs of `job_table` by study, in their order.

    Returns:
        Columns study, jobs, gpu_hours, cpu_hours (sums), mem_mb and minutes (of the largest job).
    """
    return (
        jobs.groupby("study", sort=False)
        .agg(
            jobs=("rule", "size"),
            gpu_hours=("gpu_hours", "sum"),
            cpu_hours=("cpu_hours", "sum"),
            mem_mb=("mem_mb", "max"),
            minutes=("minutes", "max"),
        )
        .reset_index()
    )


def disk_mb(plan: Plan, study: str) -> float:
    """The size of what a study has left at this scale, in MB.

    Links in `results/store` to the same files take nothing, and are not looked at. `SHARED` is all
    that belongs to no study: data sets, logs, the report.
    """
    results, folders = plan.root / plan.results, [plan.root / plan.results / study]
    if study == SHARED:
        others = {results / each for each in plan.studies}
        folders = [path for path in results.glob("*") if path not in others]
        for name in _datasets(plan):
            card = plan.root / card_path(plan.config.data_dir, name)
            folders += [card.parent, card.parents[2] / "raw" / name]
    files = (path for folder in folders for path in (folder, *folder.rglob("*")))
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def disk_to_come_mb(plan: Plan, study: str) -> float:
    """The size of what a study will have left once it has run, in MB, about.

    Most of it are the states of its runs (`replica.plan.size_of`). `SHARED` is the data sets.
    """
    if study == SHARED:
        return sum(sum(DATASET_MB.get(name, EMBEDDED_MB)) for name in _datasets(plan))
    parts = [part for part in plan.parts.values() if part.study == study]
    states = sum(size_of(part) + BYTES_OF_A_JOB for part in parts)
    return (states + BYTES_OF_A_FIGURE * len(plan.studies[study].figures)) / 1e6


def _datasets(plan: Plan) -> list[str]:
    return sorted({name for part in plan.parts.values() for name in part.datasets})


def plan_table(plan: Plan, rates: Rates) -> pd.DataFrame:
    """What each study takes: `study_table` with the disk that it will take and takes now.

    Returns:
        Its columns, and disk_mb and disk_now_mb.
    """
    table = study_table(job_table(plan, rates))
    to_come = [disk_to_come_mb(plan, study) for study in table["study"]]
    return table.assign(
        disk_mb=to_come, disk_now_mb=[disk_mb(plan, study) for study in table["study"]]
    )


def plan_notes(plan: Plan, rates: Rates) -> list[str]:
    """What the hours of a plan rest on, what is off by default, and the data to fetch."""
    lines = [*notes(job_table(plan, rates), rates), *precision_notes(plan)]
    more = [extras_in_words(plan, rates), supply.in_words(plan, supply.to_fetch(plan))]
    return [*lines, *(line for line in more if line)]


def print_plan(plan: Plan, rates: Rates, console: Console) -> None:
    """The table on the terminal, and what its hours rest on."""
    table = plan_table(plan, rates)
    view = Table(header_style="bold", pad_edge=False, title=f"scale {plan.config.label}")
    for heading in ("study", "jobs", "GPU hours", "CPU hours", "largest job (MB)",
                    "longest (min)", "disk (MB)", "on disk now"):  # fmt: skip
        view.add_column(heading, justify="left" if heading == "study" else "right")
    total, largest = table.sum(numeric_only=True), table.max(numeric_only=True)
    of_all = {"study": "all", **total, **largest[["mem_mb", "minutes"]]}
    for row in [*table.to_dict("records"), of_all]:
        if row is of_all:
            view.add_section()
        hours = [f"{row[name]:,.2f}" for name in ("gpu_hours", "cpu_hours")]
        # A study without runs at this scale has no largest job.
        whole = [f"{row[name]:,.0f}" if row[name] > 0 else "–"
                 for name in ("mem_mb", "minutes", "disk_mb", "disk_now_mb")]  # fmt: skip
        view.add_row(row["study"], f"{row['jobs']:,.0f}", *hours, *whole)
    console.print(view)
    jobs = job_table(plan, rates)
    if kept := stored(plan):
        spared = jobs[pd.MultiIndex.from_frame(jobs[["study", "rule", "name"]]).isin(kept)]
        console.print(
            f"{len(kept)} of {len(plan.parts)} trainings and certifications are in {store.FOLDER} "
            f"already, which saves {_hours_in_words(spared)}.",
            highlight=False,
        )
    for line in plan_notes(plan, rates):
        console.print(line, highlight=False)


def precision_notes(plan: Plan) -> list[str]:
    """What bfloat16 costs on this processor, where jobs without a GPU are to compute in it."""
    on_cores = [part for part in plan.parts.values() if not plan.cost(part).gpu_slots]
    wanted = [getattr(part.spec, "precision", "") for part in on_cores]
    if has_bfloat16():
        return [BFLOAT16] if "mixed" in wanted else []
    lines = []
    if "mixed" in wanted:
        lines.append(
            "Mixed precision is float32 here: this processor has no fast units for bfloat16."
        )
    if slow := wanted.count("bfloat16"):
        lines.append(
            f"{slow} jobs compute in bfloat16, for which this processor has no fast units: "
            "expect them to take several times as long as said; precision: mixed is float32 here."
        )
    return lines


def has_bfloat16(listed: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor is faster in bfloat16; see `replica.training.precision`.

    Not asked of torch, which knows, because it loads slowly.
    """
    if not listed.exists():
        return False
    text = listed.read_text(encoding="utf-8")
    return "amx_bf16" in text or ("avx512_bf16" in text and "AuthenticAMD" in text)


def notes(jobs: pd.DataFrame, rates: Rates) -> list[str]:
    """What the hours of a table of jobs mean, and what they rest on, in sentences."""
    lines = [
        "Hours are expected: of a whole GPU, and of one core for jobs without a GPU. Memory and "
        "minutes are what a job asks for on a cluster. Disk is what is left in the end; while "
        "trainings run, their checkpoints come on top."
    ]
    if not rates.measured:
        return [*lines, f"Rates: as stated in workflow/replica/costs.py; there is no {BENCHMARKS}, "
                "which make bench writes."]  # fmt: skip
    known = jobs[jobs["kind"].isin(list(rates.measured))]
    shares = [
        f"{known[hours].sum() / jobs[hours].sum():.0%} of the {device} hours"
        for hours, device in (("gpu_hours", "GPU"), ("cpu_hours", "CPU"))
        if jobs[hours].sum() > 0
    ]
    return [*lines, f"Rates: {' and '.join(shares)} as measured by make bench on {rates.device}; "
            "the rest as stated in workflow/replica/costs.py."]  # fmt: skip
