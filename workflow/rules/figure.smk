# Figures: a tidy table, and its drawing. Restyling a drawing never recomputes its table.


localrules:
    figure_table,
    figure_plot,


rule figure_table:
    input:
        unpack(lambda wildcards: plan.figure_inputs(wildcards.study, wildcards.figure)),
    output:
        table=report(
            "results/{scale}{name}/{study}/figures/{figure}.parquet",
            caption="../report/figure.rst",
            category="{study}",
            labels=lambda wildcards: {
                "figure": label_of(wildcards),
                "as": "table (Parquet)",
            },
        ),
    log:
        "results/{scale}{name}/logs/figure_table/{study}/{figure}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/figure_table/{study}/{figure}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        key=key("table"),
        code=code("table"),
        runs=lambda wildcards: plan.figure(wildcards.study, wildcards.figure).runs,
        status=lambda wildcards: words.status(plan, wildcards.study, wildcards.figure),
        ran=lambda wildcards: words.ran(plan, wildcards.study, wildcards.figure),
    script:
        "../scripts/table.py"


rule figure_plot:
    input:
        table=rules.figure_table.output.table,
    output:
        svg=report(
            "results/{scale}{name}/{study}/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="{study}",
            labels=lambda wildcards: {
                "figure": label_of(wildcards),
                "as": "drawing",
            },
        ),
        pdf="results/{scale}{name}/{study}/figures/{figure}.pdf",
    log:
        "results/{scale}{name}/logs/figure_plot/{study}/{figure}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/figure_plot/{study}/{figure}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        key=key("plot"),
        published=lambda wildcards: words.published(plan, wildcards.study),
        footer=lambda wildcards: words.footer(plan, wildcards.study, wildcards.figure),
    script:
        "../scripts/plot.py"
