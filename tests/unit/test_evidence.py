"""What is collected in docs/evidence, what has moved since, and what can be made from it."""

import json
import shutil
from importlib import import_module

import pandas as pd
import pytest

from project import CLOSED_FORMS, ROOT, copy_project
from replica import artifacts, drawing, evidence, provenance, report
from replica.__main__ import main
from replica.data.registry import load_registry
from replica.evidence import Evidence
from replica.measures.inputs import Inputs
from replica.plan import make_plan, words
from replica.settings.study import SCALES
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE

STUDY = "low_rank"
MODULE = import_module(f"replica.studies.{STUDY}")


def plan_of(project, **changes):
    return make_plan(project, {"scale": "smoke", "studies": [STUDY], **changes})


def write(plan, name, table, spec):
    key = plan.artifacts()[f"{plan.results}/{name}"]
    stamp = provenance.begin(spec=spec, key=key, code="", seeds=[], device="cpu")
    artifacts.write_table(plan.root / plan.results / name, table, stamp.finish())


def table_of(plan, figure):
    """The closed forms as the rule makes them; all other figures are without runs."""
    nothing = pd.DataFrame(columns=["run", "metric", "value"])
    if figure not in CLOSED_FORMS:
        return nothing
    status = words.status(plan, STUDY, figure)
    inputs = Inputs(STUDY, figure, "smoke", status, histories=nothing, measures=nothing)
    return getattr(MODULE, f"table_{figure}")(inputs)


@pytest.fixture(scope="module")
def finished_study(root, tmp_path_factory):
    """A project with made results of one study."""
    project = copy_project(root, tmp_path_factory.mktemp("evidence") / "project")
    plan = plan_of(project)
    tables = {figure: table_of(plan, figure) for figure in plan.studies[STUDY].figures}
    for figure, table in tables.items():
        write(plan, f"{STUDY}/figures/{figure}.parquet", table, {"figure": figure})
    specs = words.claim_specs(plan, STUDY)
    claims = report.decide_claims(STUDY, specs, tables, MODULE)
    # Those that are decided rest on closed forms, the others on tables without rows.
    assert set(claims["verdict"]) == {HOLDS, UNDECIDABLE}
    write(plan, f"{STUDY}/claims.parquet", claims, json.loads(json.dumps(specs)))
    return project


@pytest.fixture
def project(finished_study, tmp_path):
    return copy_whole(finished_study, tmp_path / "project")


def copy_whole(source, target):
    copied = copy_project(source, target)
    for path in (source / "results").rglob("*.parquet"):
        artifacts.write_bytes(copied / path.relative_to(source), path.read_bytes())
    return copied


def assert_same_verdicts(card, claims):
    """What would decide a claim follows from the larger scales, and not from its tables.

    A scorecard calls data by their titles.
    """
    registry = load_registry(ROOT / "config/datasets.yaml")
    claims = report.with_titles(claims, {entry.name: entry.title for entry in registry.values()})
    names = [name for name in claims.columns if name != "decided_by"]
    pd.testing.assert_frame_equal(card[names], claims[names], check_dtype=False)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_finished_study_is_collected_once(project):
    plan = plan_of(project)
    assert "There is no evidence" in evidence.check(plan)[0]
    (said,) = evidence.collect(plan)
    assert said.startswith(f"{STUDY}: collected fig1_srg_matrices,") and "verdicts" in said
    found, made = contents(Evidence(plan).folder), contents(project / plan.results)
    csv = {name for name in found if name.endswith(".csv")}
    # The very files, with their stamps.
    assert {n: c for n, c in found.items() if n not in csv} == made
    assert csv == {"scorecard.csv", f"{STUDY}/runs.csv"}
    claims = artifacts.read_table(project / plan.results / STUDY / "claims.parquet")
    card = Evidence(plan).scorecard()
    assert_same_verdicts(card, claims)
    assert (card["fixed"] != "").all()
    assert evidence.check(plan) == []
    readme = (project / "README.md").read_text()
    assert evidence.in_readme(readme) == evidence.readme_table(project)
    # Collecting it again changes no byte, also where the run was repeated at another time.
    path = project / plan.results / STUDY / "claims.parquet"
    write(plan, f"{STUDY}/claims.parquet", claims, (artifacts.read_stamp(path) or {})["spec"])
    assert evidence.collect(plan) == [f"{STUDY}: nothing is new."]
    assert contents(Evidence(plan).folder) == found
    assert (project / "README.md").read_text() == readme


def test_the_command_says_by_its_status_whether_anything_has_moved(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    command = ["evidence", "--scale", "smoke", "--config", f"studies=[{STUDY}]"]
    assert main([*command, "--check"]) == 1
    assert capsys.readouterr().out == (
        "There is no evidence of the scale smoke yet: make SCALE=smoke, then make evidence "
        "SCALE=smoke.\n"
    )
    assert main(command) == 0 and main([*command, "--check"]) == 0
    assert f"{STUDY}: collected" in capsys.readouterr().out
    assert main([*command, f"overrides={{{STUDY}: {{fig5: {{lr: 0.123}}}}}}", "--check"]) == 1
    assert "fig5_small_k" in capsys.readouterr().out


def test_evidence_of_data_that_are_not_here_says_so(root, tmp_path):
    shutil.copytree(root / "config", tmp_path / "config")
    listed = tmp_path / evidence.FOLDER / "desktop/agop/runs.csv"
    listed.parent.mkdir(parents=True)
    kept = root / evidence.FOLDER / "desktop/agop"
    shutil.copy(kept / "runs.csv", listed)
    (listed.parent / "figures").mkdir()
    shutil.copy(kept / "figures/ext_no_agop.parquet", listed.parent / "figures")
    plan = make_plan(tmp_path, {"scale": "desktop", "studies": ["agop"]})
    said = evidence.check(plan)[-1]
    assert said.startswith("It was collected on CIFAR-10 (JPEG), which a run with these settings")


def test_what_is_not_finished_or_damaged_is_left_as_it_was(project):
    plan = plan_of(project)
    evidence.collect(plan)
    before = contents(project / evidence.FOLDER)
    path = project / plan.results / STUDY / "figures/fig1_srg_matrices.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    other = plan_of(project, overrides={STUDY: {"fig5": {"lr": 0.123}}})
    # The damaged table was collected while it was whole.
    assert evidence.collect(plan) == [f"{STUDY}: nothing is new."]
    (said,) = evidence.collect(other)
    assert said.startswith(f"{STUDY}: left as it was") and "fig5_small_k" in said
    assert contents(project / evidence.FOLDER) == before
    # fig5 and the verdicts that it decides are of other settings; all else is what it was.
    (said,) = evidence.check(other)
    assert said.startswith(f"{STUDY}: made by other code or other settings: ")
    assert "fig5_small_k" in said and "verdicts" in said and "fig1_srg_matrices" not in said


def test_a_study_is_collected_in_pieces_where_it_never_was_whole(project):
    """As after runs on several machines: each has the results of some figures."""
    plan = plan_of(project)
    results = project / plan.results
    claims = artifacts.read_table(results / STUDY / "claims.parquet")
    (results / STUDY / "claims.parquet").unlink()
    figures = sorted(path.stem for path in (results / STUDY / "figures").glob("*.parquet"))
    needed = {claim: set(spec["figures"]) for claim, spec in words.claim_specs(plan, STUDY).items()}
    later = {figure for figure in figures if figure not in CLOSED_FORMS} | needed["c1"]
    away = {figure: results / STUDY / f"figures/{figure}.parquet" for figure in later}
    kept = {figure: path.read_bytes() for figure, path in away.items()}
    for path in away.values():
        path.unlink()

    (said,) = evidence.collect(plan)
    assert said.startswith(f"{STUDY}: collected ") and "verdicts; " in said
    assert f"{len(later)} of {len(figures)} tables are missing" in said
    assert evidence.check(plan) == [
        f"{STUDY}: only {len(figures) - len(later)} of {len(figures)} figures are collected so far."
    ]
    card = Evidence(plan).scorecard().set_index("claim")
    whole = claims.set_index("claim")
    for claim, of in needed.items():
        missing = of & later
        assert card["verdict"][claim] == (UNDECIDABLE if missing else whole["verdict"][claim])
        assert not missing or "no table of" in card["detail"][claim]
    assert evidence.collect(plan)[0].startswith(f"{STUDY}: nothing is new; ")

    # The rest is finished elsewhere: what was collected before is not run again.
    for figure, path in away.items():
        path.write_bytes(kept[figure])
    for figure in set(figures) - later:
        (results / STUDY / f"figures/{figure}.parquet").unlink()
    (said,) = evidence.collect(plan)
    assert "missing" not in said
    assert evidence.check(plan) == []
    assert_same_verdicts(Evidence(plan).scorecard(), claims)
    assert Evidence(plan).is_current(f"{STUDY}/claims.parquet")


def test_jobs_collected_before_stay_in_the_list_of_jobs(project, monkeypatch):
    plan = plan_of(project)
    parts = [part for part in plan.parts.values() if part.study == STUDY][:3]
    rows = [
        dict.fromkeys(evidence.RUN_COLUMNS, "")
        | {"run": p.run, "part": p.part, "key": plan.key("train", STUDY, p.run, p.part)}
        for p in parts
    ]
    path = Evidence(plan).folder / STUDY / evidence.RUNS
    path.parent.mkdir(parents=True)
    pd.DataFrame([rows[2], rows[0], rows[1] | {"key": "of other code"}]).to_csv(path, index=False)
    now = pd.DataFrame([rows[2] | {"minutes": 3.0}], columns=evidence.RUN_COLUMNS)
    monkeypatch.setattr(evidence, "run_table", lambda plan, study: now)
    found = evidence._all_runs(Evidence(plan), STUDY)
    assert found["run"].tolist() == [parts[0].run, parts[2].run]
    assert found["minutes"].tolist() == ["", 3.0]


def test_figures_that_nobody_asks_for_any_more_are_named(project):
    plan = plan_of(project)
    evidence.collect(plan)
    folder = Evidence(plan).folder / STUDY / "figures"
    (folder / "fig1_srg_matrices.parquet").rename(folder / "gone.parquet")
    assert Evidence(plan).moved() == {
        f"{STUDY}/figures/gone.parquet": "these settings do not ask for it"
    }


def test_figures_off_by_default_are_held_against_a_plan_that_has_them(project):
    plan = make_plan(project, {"scale": "smoke", "studies": ["agop"]})
    full = make_plan(project, {"scale": "smoke", "studies": ["agop"], "extras": ["ext_switches"]})
    assert evidence.with_extras(plan) is plan
    name = "agop/figures/ext_switches.parquet"
    write(full, name, pd.DataFrame({"value": [1.0]}), {})
    target = Evidence(plan).folder / name
    artifacts.write_bytes(target, (project / full.results / name).read_bytes())
    assert Evidence(plan).moved() == {name: "these settings do not ask for it"}
    assert Evidence(evidence.with_extras(plan)).moved() == {}


def test_verdicts_of_other_studies_stay(project):
    plan = plan_of(project)
    path = Evidence(plan).folder / evidence.SCORECARD
    others = pd.DataFrame({
        "study": ["agop", STUDY, "sinks"], "claim": "c1", "rests_on": "proof", "verdict": FAILS,
        "value": [0.1, float("nan"), 1.0], "detail": ["", "NA", "none"],
    })  # fmt: skip
    path.parent.mkdir(parents=True)
    others.to_csv(path, index=False)
    evidence.collect(plan)
    card = Evidence(plan).scorecard()
    assert card["study"].drop_duplicates().tolist() == ["agop", STUDY, "sinks"]
    rest = card[card["study"] != STUDY].reset_index(drop=True)[others.columns]
    # Words that look like missing numbers are words.
    assert rest["detail"].tolist() == ["", "none"] and rest["value"].tolist() == [0.1, 1.0]
    assert len(card) - 2 == len(plan.studies[STUDY].claims)


def test_drawings_and_verdicts_come_from_the_evidence_alone(project, tmp_path):
    plan = plan_of(project)
    with pytest.raises(FileNotFoundError, match="no evidence of the scale smoke yet"):
        evidence.redraw(plan, tmp_path / "drawn")
    evidence.collect(plan)
    claims = artifacts.read_table(project / plan.results / STUDY / "claims.parquet")
    for path in (project / "results").rglob("*.parquet"):
        path.unlink()
    # A verdict that is another than the one collected is named.
    path = Evidence(plan).folder / evidence.SCORECARD
    card = evidence.read_scorecard(path)
    first = card["claim"][card["verdict"] == HOLDS].iloc[0]
    card.loc[card["claim"] == first, "verdict"] = FAILS
    card.to_csv(path, index=False)
    said = evidence.redraw(plan, tmp_path / "drawn")
    figures = plan.studies[STUDY].figures
    assert said == [
        f"{len(figures)} figures and {len(claims)} verdicts: {tmp_path / 'drawn'}",
        f"{STUDY}.{first}: {HOLDS}; when it was collected: {FAILS}",
    ]
    card = evidence.read_scorecard(tmp_path / "drawn/scorecard.csv")
    assert_same_verdicts(card, claims)
    for figure in figures:
        for ending in ("svg", "pdf"):
            path = tmp_path / f"drawn/{STUDY}/figures/{figure}.{ending}"
            assert artifacts.has_key(path, plan.key("plot", STUDY, figure))
    # As the rule draws it.
    figure, published = "fig3_left_loss_ratio", project / words.published(plan, STUDY)
    footer, draw = words.footer(plan, STUDY, figure), getattr(MODULE, f"draw_{figure}")
    drawing.plot(draw, figure, table_of(plan, figure), published, footer, tmp_path / "own")
    own = artifacts.content_digest(tmp_path / "own.svg")
    assert own == artifacts.content_digest(tmp_path / f"drawn/{STUDY}/figures/{figure}.svg")


def test_what_was_run_stays_what_it_was_when_settings_move(project):
    plan = plan_of(project)
    evidence.collect(plan)
    now = words.claim_specs(plan, STUDY)
    assert evidence.claim_specs(Evidence(plan), STUDY) == now
    # The claims on photographs, had they been run on them.
    larger = Evidence(plan_of(project, overrides={STUDY: {"fig2_bottom": {"lr": 0.123}}}))
    name = f"{STUDY}/claims.parquet"
    moved = [
        claim for claim, spec in now.items() if "fig2_bottom_resnet_cifar10" in spec["figures"]
    ]
    ran = {claim: {**now[claim], "data": "cifar10", "stand_in": ""} for claim in now}
    larger.stamps[name]["spec"] = ran
    found = evidence.claim_specs(larger, STUDY)
    assert moved and all(
        found[c]["data"] == ("cifar10" if c in moved else now[c]["data"]) for c in now
    )
    assert all(found[c]["stand_in"] == "" for c in moved)


def test_the_table_of_the_readme_counts_verdicts(tmp_path):
    assert evidence.readme_table(tmp_path) == evidence.NONE_YET
    rows = [("b", "proof", HOLDS), ("a", "proof", HOLDS), ("a", "proof", HOLDS),
            ("a", "evidence", FAILS), ("a", "evidence", UNDECIDABLE)]  # fmt: skip
    for scale, kept in [("smoke", 5), ("laptop", 5), ("desktop", 1)]:
        path = tmp_path / evidence.FOLDER / scale / evidence.SCORECARD
        path.parent.mkdir(parents=True)
        card = pd.DataFrame(rows[:kept], columns=["study", "rests_on", "verdict"])
        card.assign(claim="c", value=1.0).to_csv(path, index=False)
    unfinished = tmp_path / evidence.FOLDER / "laptop/a/claims.parquet"
    artifacts.write_table(unfinished, pd.DataFrame({"claim": ["c"]}), {"key": evidence.UNFINISHED})
    laptop, desktop = (f"[{s}](docs/evidence/{s}/scorecard.csv)" for s in ("laptop", "desktop"))
    assert evidence.readme_table(tmp_path).splitlines() == [
        f"| study | {laptop}: proven | {laptop}: on evidence "
        f"| {desktop}: proven | {desktop}: on evidence |",
        "| --- | --- | --- | --- | --- |",
        "| `a` | 2 hold | 1 does not, 1 undecided so far | – | – |",
        "| `b` | 1 holds | – | 1 holds | – |",
    ]


def test_the_readme_shows_the_verdicts_of_the_evidence(root):
    """After a change of the evidence: make evidence."""
    text = (root / "README.md").read_text(encoding="utf-8")
    assert evidence.in_readme(text) == evidence.readme_table(root)


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != "smoke"])
def test_the_scorecard_of_the_evidence_is_that_of_its_tables(root, scale):
    folder = root / evidence.FOLDER / scale
    if not (folder / evidence.SCORECARD).exists():
        pytest.skip(f"no evidence of the scale {scale} yet: make evidence SCALE={scale}")
    card = evidence.read_scorecard(folder / evidence.SCORECARD).set_index("study")
    studies = sorted(path.parent.name for path in folder.glob("*/claims.parquet"))
    assert sorted(set(card.index)) == studies
    for study in studies:
        claims = artifacts.read_table(folder / study / "claims.parquet")
        assert_same_verdicts(card.loc[[study]].reset_index(), claims)
    for path in folder.rglob("*.parquet"):
        artifacts.verify(path)
