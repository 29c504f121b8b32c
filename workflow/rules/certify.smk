# Certification: counts of predictions under noise, for one slice of the test images.


rule certify:
    input:
        cards=cards_of_states,
        starts_from=start_of,
    output:
        counts="results/{scale}{name}/{study}/counts/{run}/{part}.safetensors",
    log:
        "results/{scale}{name}/logs/certify/{study}/{run}/{part}.log",
    benchmark:
        "results/{scale}{name}/benchmarks/certify/{study}/{run}/{part}.tsv"
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
        base=lambda wildcards: part_of(wildcards).starts_from.spec.model_dump(
            mode="json"
        ),
        slice=lambda wildcards: part_of(wildcards).slice,
        # Counts outlive the job: more draws continue from fewer.
        checkpoint=lambda wildcards: f"results/counts/{keys.counts_key(plan, part_of(wildcards))}.safetensors",
    script:
        "../scripts/certify.py"
