"""What a dry run of Snakemake lists, by study and rule."""

from rich.console import Console

from replica.plan import make_plan
from replica.preview import data_of, jobs_in, print_preview

TEXT = """\
Building DAG of jobs...
[Mon Nov 30 08:02:41 2026]
group job 5f (jobs in lexicogr. order):
    [Mon Nov 30 08:02:41 2026]
    rule measure_run:
        input: results/smoke/mol/runs/ties/all.safetensors
        output: results/smoke/mol/measures/ties/all.parquet
        wildcards: scale=smoke, study=mol, run=ties, part=all
[Mon Nov 30 08:02:41 2026]
rule train_run:
    output: results/smoke/mol/runs/ties/all.safetensors, results/smoke/mol/runs/ties/all.history.parquet
    wildcards: scale=smoke, study=mol, run=ties, part=all
    resources: tmpdir=/tmp
rule train_run:
    output: results/smoke/mol/runs/front/slice-1.safetensors
    wildcards: scale=smoke, study=mol, run=front, part=slice-1
localrule scorecard_table:
    input: results/smoke/mol/claims.parquet
    output: results/smoke/scorecard.parquet, results/smoke/scorecard.html
rule all:
    input: results/smoke/scorecard.html
Job stats:
"""


def test_jobs_are_counted_by_study_and_rule_in_the_order_in_which_they_run():
    table = jobs_in(TEXT)
    assert table.to_numpy().tolist() == [
        ["mol", "train_run", 2, ["ties", "front/slice-1"]],
        ["mol", "measure_run", 1, ["ties"]],
        ["shared", "scorecard_table", 1, ["scorecard"]],
    ]


def test_nothing_to_do_is_an_empty_table(capsys):
    table = jobs_in("Nothing to be done (all requested files are present and up to date).\n")
    assert len(table) == 0 and list(table.columns) == ["study", "rule", "jobs", "names"]
    print_preview(table, ["a is damaged: it would be deleted."], Console(width=100))
    said = capsys.readouterr().out
    assert said == "a is damaged: it would be deleted.\nNothing would run.\n"


def test_a_line_names_a_few(capsys):
    many = "".join(
        f"\nrule figure_plot:\n    output: results/smoke/mol/figures/f{i}.svg\n"
        f"    wildcards: scale=smoke, study=mol, figure=f{i}\n"
        for i in range(9)
    )
    print_preview(jobs_in(many), [], Console(width=100))
    said = capsys.readouterr().out
    assert "f0, f1, f2 and 6 more" in said and "9 jobs would run; nothing was changed." in said
    print_preview(jobs_in(many[: many.index("\nrule", 1)]), [], Console(width=100))
    assert capsys.readouterr().out.endswith("1 job would run; nothing was changed.\n")


def test_the_data_are_those_that_the_jobs_fetch(root):
    plan = make_plan(root, {"scale": "paper"})

    def of(*names):
        rules = "".join(
            f"\nlocalrule fetch_dataset:\n    output: data/raw/{name}/receipt.json\n"
            f"    wildcards: dataset={name}\n"
            for name in names
        )
        return data_of(plan, jobs_in(rules))

    size = sum(plan.registry["mnist"].bytes.values()) / 1e6
    title = plan.registry["mnist"].title
    # The cone is computed and not fetched.
    said = of("mnist", "cone")
    assert said == [f"To be fetched into data: {title} ({size:,.1f} MB); {size:,.1f} MB in all."]
    assert of("cone") == of() == []
