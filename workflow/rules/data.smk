# Data sets: fetched with a checksum, then brought into one form on disk with a small card.


localrules:
    fetch_dataset,
    prepare_dataset,


rule fetch_dataset:
    output:
        receipt=f"{plan.config.data_dir}/raw/{{dataset}}/receipt.json",
    log:
        "results/logs/fetch_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/fetch_dataset/{dataset}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=600,
        runtime=120,
    params:
        files=lambda wildcards: plan.registry[wildcards.dataset].files,
    script:
        "../scripts/fetch.py"


rule prepare_dataset:
    input:
        receipt=rules.fetch_dataset.output.receipt,
    output:
        card=f"{plan.config.data_dir}/prepared/{{dataset}}/card.json",
    log:
        "results/logs/prepare_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/prepare_dataset/{dataset}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=lambda wildcards: plan.preparing_mb(wildcards.dataset),
        runtime=60,
    params:
        key=key("dataset"),
    script:
        "../scripts/dataset.py"
