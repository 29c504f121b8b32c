# The plan of this configuration, and the small functions that give rules their inputs.

import os
import re
import sys
from pathlib import Path

from replica import pages, rulebook
from replica.configuration import CONFIG_FILE, read_settings
from replica.kinds import reader, training_settings
from replica.last_words import listen
from replica.plan import keys, make_plan, words
from replica.plan.servers import server_modules, server_of
from replica.provenance import changed_source
from replica.configuration import ConfigError
from replica.fork_server import fork_scripts
from replica.targets import asked_for, unknown_target
from replica.watching import planned

# Snakemake's own `configfile:` takes the last of two equal keys, ends in tracebacks, and leaves the
# values within braces of `--config` as text. So the words of its command line are read here, and
# mean the same as those of the command `replica`.
given = workflow.config_settings
# The project's folder. Where another workflow uses this one as a module, it is that workflow's: its
# Snakefile lies in a folder `workflow` beside the folder `config`.
root = Path(workflow.basedir)
if root.name == "workflow" and not (root / "config").exists():
    root = root.parent
try:
    settings = read_settings(root, given.config_args or [], given.configfiles)
    plan = make_plan(root, settings.values, settings.source)
except ConfigError as error:
    # One sentence, not a traceback: the user has to correct the configuration.
    sys.exit(f"Configuration: {error}")
except SyntaxError as error:
    # A study that is being written.
    sys.exit(f"{error.filename}, line {error.lineno}: {error.msg}.")

# Scripts and the report see the settings as they were read. Places are in no parameter of a rule:
# changing one re-runs nothing.
config.clear()
config.update(plan.config.model_dump(mode="json"))
workflow.configfiles.insert(0, os.path.join(root, CONFIG_FILE))
# For the front page of the report; `replica run` names there what did not finish.
config["missing"] = os.environ.get("REPLICA_MISSING", "").split()
if "--report" in sys.argv:
    # In no parameter of a job: other words re-run nothing.
    config["captions"] = words.captions(plan)


wildcard_constraints:
    study="|".join(plan.studies),
    scale=plan.config.scale,
    # Empty where the settings have no name.
    name=plan.config.suffix or ".{0}",
    run=r"[A-Za-z][A-Za-z0-9_.+-]*",
    part=r"(all|seed\d+)(-(slice|stage)\d+)?",
    figure=r"[a-z0-9_]+",
    networks=r"[A-Za-z][A-Za-z0-9_.-]*",
    dataset=r"[A-Za-z][A-Za-z0-9_]*",


def label_of(wildcards):
    """The name of a figure in the report."""
    return words.label(plan, wildcards.study, wildcards.figure)


def part_of(wildcards):
    return plan.parts[wildcards.study, wildcards.run, wildcards.part]


def cards_of_states(wildcards):
    part = part_of(wildcards)
    return plan.cards_for([part], plan.states(part))


def cards_of_measures(wildcards):
    part = part_of(wildcards)
    return plan.cards_for([part], plan.measures(part))


def start_of(wildcards):
    """States of the job that this one starts from; none where it starts at random."""
    start = part_of(wildcards).starts_from
    return [] if start is None else [plan.states(start)]


def labelled_of(wildcards):
    """The labelled sets that the stage before chose; none for the first stage."""
    previous = part_of(wildcards).previous_stage
    return [] if previous is None else [plan.labelled(previous)]


def key(stage):
    """A params function: the key of the job of this stage that the wildcards name."""
    return lambda wildcards: plan.key(stage, *wildcard_names(stage, wildcards))


def code(stage):
    return lambda wildcards: keys.code(plan, stage, *wildcard_names(stage, wildcards))


def wildcard_names(stage, wildcards):
    names = {
        "dataset": ["dataset"],
        "train": ["study", "run", "part"],
        "measure": ["study", "run", "part"],
        "table": ["study", "figure"],
        "plot": ["study", "figure"],
        "claims": ["study"],
        "scorecard": [],
        "generalization": ["study", "networks"],
        "generalization_on_gpu": ["study", "networks"],
        "correlations": [],
        "pages": [],
    }
    return [getattr(wildcards, name) for name in names[stage]]


def asks(name):
    """A resource of the job that the wildcards name."""
    return lambda wildcards: plan.resources(part_of(wildcards))[name]


def asks_growing(name):
    """A resource that each further attempt asks more of."""
    return lambda wildcards, attempt: plan.resources(part_of(wildcards))[name] * attempt


def networks_cost(wildcards):
    """What the measures of generalization of a group of networks need."""
    return plan.generalization_cost(wildcards.study, wildcards.networks)


def group_of(wildcards):
    return plan.group(part_of(wildcards))
