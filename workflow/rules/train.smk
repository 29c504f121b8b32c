# Training: one job for all seeds of a small model, one job a seed for a large one. Active learning
# is a chain of them, each with its labelled set.


rule train_run:
    input:
        cards=cards_of_states,
        starts_from=start_of,
    output:
        states="results/{scale}{name}/{study}/runs/{run}/{part}.safetensors",
        history="results/{scale}{name}/{study}/runs/{run}/{part}.history.parquet",
    log:
        "results/{scale}{name}/logs/train_run/{study}/{run}/{part}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/train_run/{study}/{run}/{part}.tsv"
    wildcard_constraints:
        part=r"(all|seed\d+)",
    group:
        group_of
    conda:
        "../../envs/environment.yaml"
    threads: asks("threads")
    resources:
        mem_mb=asks_growing("mem_mb"),
        runtime=asks_growing("runtime"),
        gpu_percent=asks("gpu_percent"),
        gres=asks("gres"),
        slurm_partition=asks("slurm_partition"),
        slurm_account=plan.config.cluster.account,
        slurm_extra=plan.config.cluster.extra,
    params:
        key=key("train"),
        code=code("train"),
        spec=lambda wildcards: training_settings(part_of(wildcards).spec),
        seeds=lambda wildcards: list(part_of(wildcards).seeds),
        datasets=lambda wildcards: plan.dataset_keys(part_of(wildcards)),
        # Not declared as an output: Snakemake deletes outputs before each attempt.
        checkpoint=lambda wildcards: f"results/checkpoints/{key('train')(wildcards)}.safetensors",
    script:
        "../scripts/train.py"


rule train_round:
    input:
        cards=cards_of_states,
        starts_from=start_of,
        labelled=labelled_of,
    output:
        states="results/{scale}{name}/{study}/runs/{run}/{part}.safetensors",
        history="results/{scale}{name}/{study}/runs/{run}/{part}.history.parquet",
        labelled="results/{scale}{name}/{study}/runs/{run}/{part}.labelled.parquet",
    log:
        "results/{scale}{name}/logs/train_round/{study}/{run}/{part}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/train_round/{study}/{run}/{part}.tsv"
    wildcard_constraints:
        part=r".*-stage\d+",
    group:
        group_of
    conda:
        "../../envs/environment.yaml"
    threads: asks("threads")
    resources:
        mem_mb=asks_growing("mem_mb"),
        runtime=asks_growing("runtime"),
        gpu_percent=asks("gpu_percent"),
        gres=asks("gres"),
        slurm_partition=asks("slurm_partition"),
        slurm_account=plan.config.cluster.account,
        slurm_extra=plan.config.cluster.extra,
    params:
        key=key("train"),
        code=code("train"),
        spec=lambda wildcards: part_of(wildcards).spec.model_dump(mode="json"),
        seeds=lambda wildcards: list(part_of(wildcards).seeds),
        datasets=lambda wildcards: plan.dataset_keys(part_of(wildcards)),
        stage=lambda wildcards: part_of(wildcards).stage,
        checkpoint=lambda wildcards: f"results/checkpoints/{key('train')(wildcards)}.safetensors",
    script:
        "../scripts/round.py"
