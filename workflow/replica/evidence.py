"""Results in the repository: the tables and verdicts of finished studies, in `docs/evidence`.

A visitor sees them before anything has run, and a change in them is a diff. A folder per scale is
laid out like `results/<scale>`: `<study>/figures/<figure>.parquet`, `<study>/claims.parquet` and
`<study>/generalization/<networks>.parquet` are the files of the run, stamps included;
`<study>/runs.csv` lists the jobs behind them, `scorecard.csv` the verdicts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from replica import artifacts, estimates, pages, report, rulebook
from replica.configuration import ConfigError
from replica.estimates import EVIDENCE as FOLDER
from replica.estimates import SCORECARD
from replica.plan import Plan, make_plan, words
from replica.provenance import begin, git_commit
from replica.settings.load import load_studies
from replica.settings.study import SCALES
from replica.verdicts import UNDECIDABLE

RUNS = "runs.csv"
# The key of verdicts on some of the tables of a study.
UNFINISHED = "unfinished"
# What was run, job by job: from the stamps of the states.
RUN_COLUMNS = [
    "run", "part", "kind", "dataset", "precision", "seeds", "device", "minutes", "memory_mib",
    "torch", "commit", "key",
]  # fmt: skip
README = "README.md"
# The lines of the README between which `write_readme` writes.
BEGINS, ENDS = "<!-- verdicts: written by make evidence -->", "<!-- end of verdicts -->"
NONE_YET = (
    "No verdicts are in the repository yet: after a finished run, `make evidence` puts them here."
)


@dataclass(frozen=True)
class Evidence:
    """The evidence of the scale of a plan, held against that plan."""

    plan: Plan

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.plan.root / FOLDER / self.plan.config.scale

    @cached_property
    def stamps(self) -> dict[str, dict[str, Any]]:
        """The stamp of each Parquet file of the plan's studies, by its path below the folder.

        Raises:
            CorruptArtifact: a stamp is damaged.
        """
        paths = [path for study in self.plan.studies
                 for path in sorted((self.folder / study).rglob("*.parquet"))]  # fmt: skip
        return {
            path.relative_to(self.folder).as_posix(): artifacts.read_stamp(path) or {}
            for path in paths
        }

    def key(self, name: str) -> str | None:
        """The key that the plan has for a file; None for what it does not ask for."""
        return self.plan.artifacts().get(f"{self.plan.results}/{name}")

    def is_current(self, name: str) -> bool:
        """Whether a file is there with the key of the plan."""
        return name in self.stamps and self.stamps[name].get("key") == self.key(name)

    def moved(self) -> dict[str, str]:
        """Files that the plan would make otherwise, or not at all: path -> why."""
        why = {}
        for name, stamp in self.stamps.items():
            if stamp.get("key") == UNFINISHED:
                continue
            if self.key(name) is None:
                why[name] = "these settings do not ask for it"
            elif not self.is_current(name):
                why[name] = "made by other code or other settings"
        return why

    def was_finished(self, study: str) -> bool:
        """Whether all tables of a study were there once, by whatever code and settings."""
        stamp = self.stamps.get(_verdicts_of(study))
        return stamp is not None and stamp.get("key") != UNFINISHED

    def figures(self, study: str) -> dict[str, pd.DataFrame]:
        """The tables of a study that are there, by figure.

        Raises:
            CorruptArtifact: one of them is damaged.
        """
        paths = sorted((self.folder / study / "figures").glob("*.parquet"))
        return {path.stem: artifacts.read_table(path) for path in paths}

    def scorecard(self) -> pd.DataFrame:
        """The verdicts that were collected; no rows where there are none."""
        return read_scorecard(self.folder / SCORECARD)


def with_extras(plan: Plan) -> Plan:
    """A plan that also asks for the figures off by default that are in the evidence."""
    there = {path.stem for path in Evidence(plan).folder.glob("*/figures/*.parquet")}
    studies = load_studies(plan.root / "config/studies").values()
    off = {name for study in studies for name, spec in study.figures.items() if spec.extra}
    if not (more := (there & off) - set(plan.config.extras)):
        return plan
    extras = [*plan.config.extras, *sorted(more)]
    return make_plan(plan.root, plan.config.model_dump(mode="json") | {"extras": extras})


def read_scorecard(path: Path) -> pd.DataFrame:
    """A scorecard as `collect` writes it: words are words, also where there are none."""
    if not path.exists():
        return pd.DataFrame(columns=["study", "claim", "rests_on", "verdict"])
    return pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})


# ======================================================================================
# Collecting


def collect(plan: Plan) -> list[str]:
    """Copy the results of a plan, where they are others than those there.

    A study is finished when the tables of all its figures are whole and have the keys of the plan,
    in the results or in the evidence. Of a study that never was, each table that is finished is
    collected, and its claims are decided on those: a scale may be run in pieces, and on several
    machines. Of a study that was finished before, nothing is touched until it is again. What lies
    there of other studies stays, and so do figures that the plan does not ask for. Tables of
    networks come along where they are current.

    Returns:
        Sentences: what was collected, and what was left as it was.

    Raises:
        ConfigError: the settings have a name.
        CannotWrite: see `artifacts.atomic`.
    """
    _refuse_a_name(plan)
    said, cards = [], []
    for study in plan.studies:
        evidence = Evidence(plan)
        figures = [f"{study}/figures/{figure}.parquet" for figure in plan.studies[study].figures]
        networks = [
            f"{study}/generalization/{group}.parquet" for group in plan.network_groups(study)
        ]
        made = [name for name in [*figures, *networks] if _is_whole(evidence, name)]
        lacking = [n for n in figures if n not in made and not evidence.is_current(n)]
        missing = (
            f"{len(lacking)} of {len(figures)} tables are missing or not current "
            f"({', '.join(map(_called, lacking[:3]))}{', ...' if len(lacking) > 3 else ''})"
        )
        if lacking and (evidence.was_finished(study) or not set(made) & set(figures)):
            said.append(f"{study}: left as it was; {missing}.")
            continue
        copied = [_called(name) for name in made if _copied(evidence, name)]
        for path in sorted((evidence.folder / study / "generalization").glob("*.parquet")):
            if f"{study}/generalization/{path.name}" not in networks:
                artifacts.remove(path)
        copied += _collect_verdicts(plan, study, finished=not lacking)
        _write_csv(evidence.folder / study / RUNS, _all_runs(evidence, study))
        cards.append(artifacts.read_table(evidence.folder / _verdicts_of(study)))
        new = f"collected {', '.join(copied)}" if copied else "nothing is new"
        said.append(f"{study}: {new}{f'; {missing}' if lacking else ''}.")
    if cards:
        _write_scorecard(Evidence(plan), pd.concat(cards, ignore_index=True))
    write_readme(plan.root)
    return said


def _verdicts_of(study: str) -> str:
    return f"{study}/claims.parquet"


def _collect_verdicts(plan: Plan, study: str, *, finished: bool) -> list[str]:
    """Put the verdicts of a study beside its tables: those of the run, or decided on what is there.

    Returns:
        What it is called, if it is another than before.
    """
    evidence, name = Evidence(plan), _verdicts_of(study)
    if finished and _is_whole(evidence, name):
        return [_called(name)] if _copied(evidence, name) else []
    specs = claim_specs(evidence, study)
    key = evidence.key(name) if finished else UNFINISHED
    stamp = begin(spec=specs, key=str(key), code="", seeds=[], device="cpu")
    claims = _decided(study, specs, evidence.figures(study))
    path = evidence.folder / name
    if evidence.stamps.get(name, {}).get("key") == key and claims.equals(
        artifacts.read_table(path)
    ):
        return []
    artifacts.write_table(path, claims, stamp.finish())
    return [_called(name)]


def _decided(
    study: str, specs: Mapping[str, dict[str, Any]], tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """The verdicts of a study on tables of the evidence, by the code that is here."""
    return report.decide_claims(study, specs, tables, import_module(f"replica.studies.{study}"))


def _all_runs(evidence: Evidence, study: str) -> pd.DataFrame:
    """`run_table`, with the rows collected before of jobs that the plan still has."""
    plan, path = evidence.plan, evidence.folder / study / RUNS
    now = run_table(plan, study)
    if not path.exists():
        return now
    before = pd.read_csv(path, keep_default_na=False, dtype={"key": str, "commit": str})
    jobs = {(part.run, part.part): plan.key("train", study, part.run, part.part)
            for part in plan.parts.values() if part.study == study}  # fmt: skip
    there = set(zip(now["run"], now["part"], strict=True))
    kept = [
        (run, part) not in there and jobs.get((run, part)) == key
        for run, part, key in before[["run", "part", "key"]].itertuples(index=False)
    ]
    if not any(kept):
        return now
    order = {job: number for number, job in enumerate(jobs)}
    both = pd.concat([before[kept], now], ignore_index=True)
    place = [order[job] for job in zip(both["run"], both["part"], strict=True)]
    return both.iloc[pd.Series(place).argsort()]


def _refuse_a_name(plan: Plan) -> None:
    if plan.config.name:
        raise ConfigError(
            f"name = {plan.config.name!r}: docs/evidence holds results of the settings of this "
            "repository only, which have no name; set name to null."
        )


def _called(name: str) -> str:
    """A file of a study in words: the id of its figure, or what else it is."""
    path = Path(name)
    if path.parent.name == "generalization":
        return f"measures of networks ({path.stem})"
    return path.stem if path.parent.name == "figures" else "verdicts"


def _is_whole(evidence: Evidence, name: str) -> bool:
    """Whether the plan's file is in the results, undamaged."""
    path = evidence.plan.root / evidence.plan.results / name
    return path.exists() and artifacts.whole_key(path) == evidence.key(name)


def _copied(evidence: Evidence, name: str) -> bool:
    """Copy a file of the results, unless the same data with the same key are there."""
    source = evidence.plan.root / evidence.plan.results / name
    stamp, there = artifacts.read_stamp(source) or {}, evidence.stamps.get(name, {})
    if all(stamp[part] == there.get(part) for part in ("key", "sha256")):
        return False
    artifacts.write_bytes(evidence.folder / name, source.read_bytes())
    return True


def run_table(plan: Plan, study: str) -> pd.DataFrame:
    """The jobs of a study that made states, from the stamps of these.

    Returns:
        Columns `RUN_COLUMNS`: wall time in minutes, peak memory in MiB; a job whose states are no
        longer there has no row.
    """
    rows = []
    for part in (part for part in plan.parts.values() if part.study == study):
        key, path = plan.key("train", study, part.run, part.part), plan.root / plan.states(part)
        if not artifacts.has_key(path, key):
            continue
        stamp = artifacts.read_stamp(path) or {}
        rows.append(
            {
                "run": part.run,
                "part": part.part,
                "kind": part.spec.kind,
                "dataset": " ".join(part.datasets),
                "precision": getattr(part.classifier or part.spec, "precision", ""),
                "seeds": _listed(part.seeds),
                "device": stamp["device"],
                "minutes": round(stamp["wall_seconds"] / 60, 3),
                "memory_mib": round(stamp["peak_memory_mib"]),
                "torch": stamp["versions"].get("torch", ""),
                "commit": stamp["commit"],
                "key": key,
            }
        )
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def _listed(seeds: tuple[int, ...]) -> str:
    """Seeds in words: "3", "0 to 9"; they are consecutive."""
    return f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def scorecard(plan: Plan, claims: pd.DataFrame) -> pd.DataFrame:
    """Verdicts with what would decide the undecided ones, and when each rule was fixed."""
    card = report.with_titles(claims, {e.name: e.title for e in plan.registry.values()})
    card = estimates.with_deciding_runs(card, plan.root, plan.config.scale)
    return rulebook.with_dates(card, plan.root, plan.config.scale, rulebook.of_plan(plan))


def _write_scorecard(evidence: Evidence, claims: pd.DataFrame) -> None:
    """The verdicts of some studies, in the place of those that were there; others stay."""
    before = evidence.scorecard()
    others = before[~before["study"].isin(claims["study"])]
    card = scorecard(evidence.plan, claims)
    card = pd.concat([others, card], ignore_index=True) if len(others) else card
    _write_csv(evidence.folder / SCORECARD, card.sort_values("study", kind="stable"))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    artifacts.write_bytes(path, table.to_csv(index=False).encode())


# ======================================================================================
# What has moved since


def check(plan: Plan) -> list[str]:
    """Sentences on the evidence that is not what the plan would make now; none if all is.

    Raises:
        ConfigError: the settings have a name.
    """
    _refuse_a_name(plan)
    evidence = Evidence(with_extras(plan))
    if not evidence.stamps:
        return [_nothing(plan)]
    moved: dict[tuple[str, str], list[str]] = {}
    for name, why in evidence.moved().items():
        moved.setdefault((name.partition("/")[0], why), []).append(_called(name))
    said = [f"{study}: {why}: {', '.join(names)}." for (study, why), names in moved.items()]
    for study in (study for study in plan.studies if not evidence.was_finished(study)):
        figures = [
            f"{study}/figures/{figure}.parquet" for figure in evidence.plan.studies[study].figures
        ]
        there = sum(name in evidence.stamps for name in figures)
        some = f"only {there} of {len(figures)} figures are collected so far."
        said.append(f"{study}: {some if there else 'nothing was collected yet.'}")
    if others := _other_data(evidence):
        said.append(
            f"It was collected on {', '.join(others)}, which a run with these settings does not "
            "read: a mirror that has such data makes it current (docs/data.md)."
        )
    return said


def _other_data(evidence: Evidence) -> list[str]:
    """Titles of the data sets that collected runs have read and those of the plan do not."""
    plan = evidence.plan
    read = {name for part in plan.parts.values() for name in part.datasets}
    lists = [evidence.folder / study / RUNS for study in plan.studies]
    tables = [pd.read_csv(path) for path in lists if path.exists()]
    there = {name for table in tables for name in table["dataset"].dropna()}
    return [plan.registry[name].title for name in sorted((there - read) & set(plan.registry))]


def _nothing(plan: Plan) -> str:
    scale = plan.config.scale
    return (
        f"There is no evidence of the scale {scale} yet: make SCALE={scale}, then "
        f"make evidence SCALE={scale}."
    )


# ======================================================================================
# Drawings and verdicts without any run


def redraw(plan: Plan, folder: Path) -> list[str]:
    """Draw every figure of the evidence and decide its claims again, by the code that is here.

    Writes `<study>/figures/<figure>.svg` and `.pdf`, `scorecard.csv`, `scorecard.html`, the pages
    that show all of it, and `generalization.html` where tables of networks were collected.

    Args:
        plan: of the scale; figures that do not exist any more are left out.
        folder: where they go.

    Returns:
        Sentences: what was drawn, and verdicts that are others than those collected.

    Raises:
        CorruptArtifact: a file of the evidence is damaged.
        FileNotFoundError: there is no evidence of the scale.
        CannotWrite: see `artifacts.atomic`.
    """
    plan = with_extras(plan)
    evidence = Evidence(plan)
    if not evidence.stamps:
        raise FileNotFoundError(_nothing(plan))
    cards: list[pd.DataFrame] = []
    made: list[tuple[str, str]] = []
    for study in plan.studies:
        tables = evidence.figures(study)
        if not tables:
            # Its verdicts would be about its tables being absent.
            continue
        asked = [figure for figure in tables if figure in plan.studies[study].figures]
        for figure in asked:
            _draw(evidence, study, figure, tables[figure], folder / study / "figures" / figure)
        made += [(study, figure) for figure in asked]
        cards.append(_decided(study, claim_specs(evidence, study), tables))
    card = scorecard(plan, pd.concat(cards, ignore_index=True))
    _write_csv(folder / SCORECARD, card)
    titles = {slug: study.title for slug, study in plan.studies.items()}
    page = report.scorecard_html(card, titles, plan.config.scale)
    artifacts.write_bytes(folder / "scorecard.html", page.encode())
    others = [
        "scorecard.html",
        *(["generalization.html"] if _write_networks(evidence, folder) else []),
    ]
    pages.write(plan, card, made, evidence.folder, folder, key=plan.key("pages"), others=others)
    return [f"{len(made)} figures and {len(card)} verdicts: {folder}", *_changed(evidence, card)]


def _draw(evidence: Evidence, study: str, figure: str, table: pd.DataFrame, stem: Path) -> None:
    """Draw one figure; its files are marked with their key only if the table has not moved."""
    from replica import drawing

    plan, name = evidence.plan, f"{study}/figures/{figure}.parquet"
    said = words.footer(plan, study, figure)
    if len(table):
        # Of what was run, whatever the settings have become since.
        said["status"] = table["status"].iloc[0]
    draw = getattr(import_module(f"replica.studies.{study}"), f"draw_{figure}")
    published = plan.root / path if (path := words.published(plan, study)) else None
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawing.plot(draw, figure, table, published, said, stem)
    if evidence.is_current(name):
        for ending in (".svg", ".pdf"):
            key = plan.key("plot", study, figure)
            artifacts.mark(stem.with_suffix(ending), key=key, commit=git_commit(plan.root))


def claim_specs(evidence: Evidence, study: str) -> dict[str, dict[str, Any]]:
    """The claims as the configuration has them, on what was run.

    The data of a claim, and for what they stand in, follow from the runs. Where the plan's are no
    longer those behind the collected tables, they are those that were collected with them.
    """
    specs = words.claim_specs(evidence.plan, study)
    ran: Mapping[str, Any] = evidence.stamps.get(_verdicts_of(study), {}).get("spec", {})
    for name, spec in specs.items():
        tables = [f"{study}/figures/{figure}.parquet" for figure in spec["figures"]]
        if name in ran and not all(evidence.is_current(table) for table in tables):
            spec |= {fact: ran[name][fact] for fact in ("data", "stand_in")}
    return specs


def _write_networks(evidence: Evidence, folder: Path) -> bool:
    """The page of the measures of all networks whose tables are there; whether there are any."""
    names = [
        name
        for study in evidence.plan.studies
        for name in evidence.stamps
        if name.startswith(f"{study}/generalization/")
    ]
    if not names:
        return False
    # Here, because it imports torch.
    from replica.generalization.table import correlated

    tables = [artifacts.read_table(evidence.folder / name) for name in names]
    _, page = correlated(pd.concat(tables, ignore_index=True), evidence.plan.config.scale)
    artifacts.write_bytes(folder / "generalization.html", page.encode())
    return True


def _changed(evidence: Evidence, card: pd.DataFrame) -> list[str]:
    """Verdicts that are not those collected, in sentences."""
    names = ["study", "claim"]
    both = card.merge(evidence.scorecard(), on=names, suffixes=("", "_collected"))
    other = both[both["verdict"] != both["verdict_collected"]]
    return [
        f"{row.study}.{row.claim}: {row.verdict}; when it was collected: {row.verdict_collected}"
        for row in other.itertuples()
    ]


# ======================================================================================
# The README


def readme_table(root: Path) -> str:
    """How many claims hold in each study at each scale of which there is evidence, in Markdown.

    The smoke scale is left out: it decides nothing. Where some figures are not there yet, a cell
    ends in "so far".
    """
    cards = {
        scale: read_scorecard(root / FOLDER / scale / SCORECARD)
        for scale in SCALES
        if scale != rulebook.FIRST_LOOK and (root / FOLDER / scale / SCORECARD).exists()
    }
    if not cards:
        return NONE_YET
    heads = [
        f"[{scale}]({FOLDER}/{scale}/{SCORECARD}): {on}"
        for scale in cards
        for on in ("proven", "on evidence")
    ]
    lines = [_row(["study", *heads]), _row(["---"] * (1 + len(heads)))]
    for study in sorted({study for card in cards.values() for study in card["study"]}):
        cells = [
            _counted(root / FOLDER / scale, card[card["rests_on"] == kind], study)
            for scale, card in cards.items()
            for kind in report.RESTS_ON
        ]
        lines.append(_row([f"`{study}`", *cells]))
    return "\n".join(lines)


def _counted(folder: Path, card: pd.DataFrame, study: str) -> str:
    """How many claims of a study hold; "so far" where open ones may wait for further figures."""
    verdicts = card.loc[card["study"] == study, "verdict"]
    unfinished = artifacts.has_key(folder / _verdicts_of(study), UNFINISHED)
    waits = unfinished and UNDECIDABLE in set(verdicts)
    return f"{report.counted(verdicts)}{' so far' if waits else ''}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def in_readme(text: str) -> str:
    """What stands in the README between the two lines that enclose the verdicts.

    Raises:
        ValueError: it does not have both lines, in this order.
    """
    found = re.search(f"{re.escape(BEGINS)}\n(.*?)\n{re.escape(ENDS)}", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{README} lacks the lines {BEGINS} and {ENDS}.")
    return found[1].strip()


def write_readme(root: Path) -> None:
    """Put the table of verdicts into the README, where it is another than the one there."""
    path = root / README
    text = path.read_text(encoding="utf-8")
    before, after = in_readme(text), readme_table(root)
    if before != after:
        artifacts.write_bytes(path, text.replace(before, after, 1).encode())
