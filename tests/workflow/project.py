"""A copy of the project to run Snakemake in, and what a dry run would start."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from replica import provenance

ROOT = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".snakemake",
    "results",
    ".gallery",
    "site",
    "data",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
)
ALL_PLOTTED = {
    "agop": ["fig1_gram_main", "fig2_nc1_layers_main", "fig3_deeprfm_relu_metrics",
             "fig4_deeprfm_cos_metrics", "fig5_gram_cos", "fig6_gram_relu", "fig7_mlp_nc1",
             "fig8_resnet_nc1", "fig9_vgg_nc1", "fig10_mlp_nfa", "fig11_resnet_nfa",
             "fig12_vgg_nfa", "ext_prop_a1", "ext_thm53", "ext_thm54", "ext_no_agop"],
    "depth": ["fig1_row1_rn1", "fig1_row2_t11", "fig1_row3_text", "fig1_row4_rn2", "fig2_mnist",
              "fig3_regularization", "fig_extra_objective", "fig_extra_sensitivity"],
    "dufm": ["rec_depth", "rec_width", "rec_backbone", "rec_threshold"],
    "fc_low_data": [
        "fig3a_supervised_cifar10", "fig3b_supervised_cifar100", "fig3c_supervised_caltech101",
        "fig3d_supervised_caltech256", "fig3_relative_gain", "fig4a_architectures_cifar10",
        "fig4b_architectures_cifar100", "backbone_a_resnet34_cifar10",
        "backbone_b_densenet121_cifar10", "backbone_c_efficientnetb3_cifar10",
        "backbone_d_resnet34_cifar100", "backbone_e_densenet121_cifar100",
        "backbone_f_efficientnetb3_cifar100", "al_a_cifar10", "al_b_cifar100",
        "al_c_caltech101", "al_d_caltech256", "ablation_a_components", "ablation_b_ojkd",
        "ablation_c_depth", "table_parameters", "gradient_gate",
    ],
    "idrs": ["xi_functions", "radius_vs_pa", "radius_vs_dimension", "table_dim_thresholds",
             "toy_cone", "sigma_hist", "cohen_cert_acc_cifar10", "cohen_classwise_cifar10",
             "cohen_summary_cifar10", "cert_acc_cifar10", "cert_acc_mnist", "table_accuracy",
             "table_classwise_std", "matched_sigma", "train_noise_ablation",
             "sigma_function_ablation", "mismatched_noise", "optional_ddrs"],
    "low_rank": ["fig1_srg_matrices", "fig2_top_dufm_k10", "fig2_bottom_resnet_cifar10",
                 "fig3_left_loss_ratio", "fig3_middle_rank_decay", "fig3_right_dnc_probability",
                 "fig5_small_k", "fig6_k15_l7"],
    "mol": ["rec_b1_uniform", "rec_b2_estimators", "rec_b3_scalarizations", "rec_b4_excess",
            "rec_b5_fronts", "rec_b6_counterexample", "rec_b7_fairness", "rec_b8_robust_digits",
            "rec_b9_filter"],
    "sinks": ["rec_c1_rates", "rec_c2_switch", "rec_c3_alignment", "rec_c4_smoothing",
              "rec_c5_cost_synth", "rec_c5_cost_real", "rec_c6_emergence", "rec_c7_interventions",
              "rec_c8_mlp_like", "rec_c9_oversmoothing", "rec_c10_overmixing", "rec_d_identities"],
}  # fmt: skip
# The job of all pages
PAGES = ("pages", "index")
CLOSED_FORMS = {"fig1_srg_matrices", "fig3_left_loss_ratio"}


def forget_digests() -> None:
    """Let this process read the library again, as a new one would."""
    for cached in (provenance.parse, provenance.references, provenance.is_module,
                   provenance.code_digest, provenance._source, provenance._names,
                   provenance._known, provenance._found, provenance._content):  # fmt: skip
        cached.cache_clear()


def copy_project(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, ignore=IGNORED)
    # The folder `data` of the library is not the folder of data sets.
    shutil.copytree(source / "workflow/replica/data", target / "workflow/replica/data",
                    dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    return target


def with_environment(project: Path) -> Path:
    """The project with the environment of the tests as its .venv."""
    if not (project / ".venv").exists():
        (project / ".venv").symlink_to(sys.prefix)
        for name in ("installed", "tested"):
            (project / ".venv" / name).touch()
    for path in [*project.glob("envs/*.txt"), project / "pyproject.toml"]:
        os.utime(path, (0, 0))
    return project


def call(
    project: Path, *arguments: str, check: bool = True, library: Path | None = None
) -> subprocess.CompletedProcess:
    # The copy's library, or that of another copy, is found before the installed one.
    path = str((library or project) / "workflow")
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
    answer = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=project, env=environment, text=True,
        capture_output=True, timeout=1800,
    )  # fmt: skip
    if check and answer.returncode:
        raise AssertionError(answer.stdout[-3000:] + answer.stderr[-6000:])
    return answer


def snakemake(
    project: Path, *arguments: str, check: bool = True, scale: str = "smoke", config: tuple = ()
):
    settings = ["--config", f"scale={scale}", *config]
    return call(project, "snakemake", "--cores", "2", *arguments, *settings, check=check)


def planned(project: Path, *arguments: str) -> set[tuple[str, str]]:
    """(rule, stem of the first output) of each job that a dry run would start."""
    text = snakemake(project, "-n", *arguments)
    jobs = set()
    # The jobs of a group are listed below it and indented.
    for block in re.split(r"\n(?= *(?:local)?rule \w+:)", text.stdout + text.stderr)[1:]:
        rule = re.search(r"rule (\w+):", block)[1]
        if rule != "all":
            output = re.search(r"output: ([^,\n]+)", block)[1]
            jobs.add((rule, re.sub(r"^results/smoke/|\.\w+(\.parquet)?$", "", output)))
    return jobs


def chain(study: str, run: str, figure: str) -> set[tuple[str, str]]:
    """What follows from a change of one run."""
    return {
        ("train_run", f"{study}/runs/{run}/all"),
        ("measure_run", f"{study}/measures/{run}/all"),
        *drawn(study, figure),
        *scored(study),
    }


def drawn(study: str, figure: str) -> set[tuple[str, str]]:
    path = f"{study}/figures/{figure}"
    return {("figure_table", path), ("figure_plot", path)}


def scored(*studies: str) -> set[tuple[str, str]]:
    return {("claims", f"{study}/claims") for study in studies} | {("scorecard_table", "scorecard")}


def generalized(*studies: str) -> set[tuple[str, str]]:
    return {("generalization", f"{study}/generalization/small") for study in studies} | {
        ("correlations", "generalization")
    }


def claim_spec(**changes) -> dict:
    """A claim as `replica.plan.words.claim_specs` gives it."""
    empty = ["statement", "source", "published", "rule", "cannot_fail", "data", "stand_in",
             "missing", "decided_by"]  # fmt: skip
    return (
        dict.fromkeys(empty, "") | {"figures": ["f"], "rests_on": "evidence", "off": []} | changes
    )
