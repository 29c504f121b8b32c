# Claims, their scorecard, the pages, a target for each study, and what all of them will take.


localrules:
    claims,
    scorecard_table,
    pages,
    plan,


rule claims:
    input:
        tables=lambda wildcards: plan.tables(wildcards.study),
    output:
        claims="results/{scale}{name}/{study}/claims.parquet",
    log:
        "results/{scale}{name}/logs/claims/{study}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/claims/{study}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        key=key("claims"),
        claims=lambda wildcards: words.claims(plan, wildcards.study),
    script:
        "../scripts/claims.py"


rule scorecard_table:
    input:
        claims=[f"{plan.results}/{study}/claims.parquet" for study in plan.studies],
    output:
        table=f"{plan.results}/scorecard.parquet",
        page=report(
            f"{plan.results}/scorecard.html",
            caption="../report/scorecard.rst",
            category="scorecard",
            labels={"page": "All claims", "as": "table"},
        ),
    log:
        f"{plan.results}/logs/scorecard.log",
    benchmark:
        f"{plan.results}/benchmarks/scorecard.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        key=key("scorecard"),
        titles=words.titles(plan),
        scale=plan.config.label,
        rules=lambda wildcards: rulebook.of_plan(plan),
    script:
        "../scripts/scorecard.py"


rule scorecard:
    input:
        rules.scorecard_table.output,


rule pages:
    input:
        card=rules.scorecard_table.output.table,
        figures=[path for study in plan.studies for path in plan.figure_files(study)],
    output:
        [f"{plan.results}/{name}" for name in pages.files(plan)],
    log:
        f"{plan.results}/logs/pages.log",
    benchmark:
        f"{plan.results}/benchmarks/pages.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        key=key("pages"),
    script:
        "../scripts/pages.py"


for study in plan.studies:

    rule:
        name:
            study
        input:
            plan.targets(study),
        localrule: True


# snakemake plan --config scale=paper
rule plan:
    log:
        f"{plan.results}/logs/plan.log",
    conda:
        "../../envs/environment.yaml"
    params:
        root=f"{plan.root}",
        config=plan.config.model_dump(mode="json"),
    script:
        "../scripts/plan.py"
