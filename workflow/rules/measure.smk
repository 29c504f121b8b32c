# Measures: tidy tables of metrics, computed from the states that a run kept.


rule measure_run:
    input:
        cards=cards_of_measures,
        states=lambda wildcards: plan.states(part_of(wildcards)),
    output:
        measures="results/{scale}{name}/{study}/measures/{run}/{part}.parquet",
    log:
        "results/{scale}{name}/logs/measure_run/{study}/{run}/{part}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/measure_run/{study}/{run}/{part}.tsv"
    group:
        group_of
    conda:
        "../../envs/environment.yaml"
    threads: asks("threads")
    resources:
        mem_mb=asks_growing("mem_mb"),
        runtime=asks_growing("measuring"),
        gpu_percent=asks("gpu_percent"),
        gres=asks("gres"),
        slurm_partition=asks("slurm_partition"),
        slurm_account=plan.config.cluster.account,
        slurm_extra=plan.config.cluster.extra,
    params:
        key=key("measure"),
        code=code("measure"),
        reader=lambda wildcards: reader(part_of(wildcards).spec),
        spec=lambda wildcards: part_of(wildcards).spec.model_dump(mode="json"),
        seeds=lambda wildcards: list(part_of(wildcards).seeds),
        datasets=lambda wildcards: plan.dataset_keys(part_of(wildcards)),
    script:
        "../scripts/measure.py"
