# Measures of generalization of every trained network, and which of them correlate with the gap.


localrules:
    correlations,


# Groups of large networks, at a scale that is meant for GPUs.
ON_GPU = "|".join(map(re.escape, plan.groups_on_gpu())) or "none"


rule generalization:
    input:
        unpack(
            lambda wildcards: plan.generalization_inputs(
                wildcards.study, wildcards.networks
            )
        ),
    output:
        table="results/{scale}/{study}/generalization/{networks}.parquet",
    log:
        "results/{scale}/logs/generalization/{study}/{networks}.log",
    benchmark:
        "results/{scale}/benchmarks/generalization/{study}/{networks}.tsv"
    wildcard_constraints:
        networks=rf"(?!({ON_GPU})\.parquet$)[A-Za-z][A-Za-z0-9_.-]*",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * networks_cost(wildcards).mem_mb,
        runtime=lambda wildcards, attempt: attempt * networks_cost(wildcards).minutes,
        slurm_partition=plan.config.cluster.partition,
        slurm_account=plan.config.cluster.account,
        slurm_extra=plan.config.cluster.extra,
    params:
        key=key("generalization"),
        code=code("generalization"),
        parts=lambda wildcards: plan.generalization_parts(
            wildcards.study, wildcards.networks
        ),
    script:
        "../scripts/generalization.py"


rule generalization_on_gpu:
    input:
        unpack(
            lambda wildcards: plan.generalization_inputs(
                wildcards.study, wildcards.networks
            )
        ),
    output:
        table="results/{scale}/{study}/generalization/{networks}.parquet",
    log:
        "results/{scale}/logs/generalization/{study}/{networks}.log",
    benchmark:
        "results/{scale}/benchmarks/generalization/{study}/{networks}.tsv"
    wildcard_constraints:
        networks=ON_GPU,
    group:
        "networks"
    conda:
        "../../envs/environment.yaml"
    threads: lambda wildcards: networks_cost(wildcards).threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * networks_cost(wildcards).mem_mb,
        runtime=lambda wildcards, attempt: attempt * networks_cost(wildcards).minutes,
        gpu_percent=100 // plan.config.jobs_per_gpu,
        gres=plan.config.cluster.gpu,
        slurm_partition=plan.config.cluster.gpu_partition,
        slurm_account=plan.config.cluster.account,
        slurm_extra=plan.config.cluster.extra,
    params:
        key=key("generalization"),
        code=code("generalization_on_gpu"),
        parts=lambda wildcards: plan.generalization_parts(
            wildcards.study, wildcards.networks
        ),
    script:
        "../scripts/generalization_on_gpu.py"


rule correlations:
    input:
        tables=plan.generalization_tables(),
    output:
        table=f"{plan.results}/generalization.parquet",
        page=report(
            f"{plan.results}/generalization.html",
            caption="../report/generalization.rst",
            category="generalization",
        ),
    log:
        f"{plan.results}/logs/correlations.log",
    benchmark:
        f"{plan.results}/benchmarks/correlations.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        key=key("correlations"),
        scale=plan.config.scale,
    script:
        "../scripts/correlations.py"
