"""What jobs ask for follows from their specification."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replica.configuration import ConfigError
from replica.costs import SECONDS_PER_UNIT
from replica.kinds import KINDS, is_split, training_cost
from replica.models.residual import initialise
from replica.plan import cost_of, make_plan
from replica.residual import by_hand
from replica.settings.load import expand, load_config, load_studies
from replica.settings.study import SCALES
from replica.settings.user import Config


@pytest.fixture(scope="module")
def studies(root):
    return load_studies(root / "config/studies")


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_asks_for_something_sensible(studies, scale):
    for study in studies.values():
        for run in study.runs:
            for spec in expand(study, run, Config(scale=scale)).values():
                if spec.kind == "certification":
                    continue
                cost = training_cost(spec, 1 if is_split(spec) else spec.seeds)
                # The largest pretrained model has 52 GB of weights.
                most = 80_000 if spec.kind == "pretrained" else 64_000
                assert 500 < cost.mem_mb < most and 1 <= cost.threads <= 8
                assert 5 <= cost.minutes <= 2 * 24 * 60
                network = "resnet" in str(getattr(spec, "backbone", getattr(spec, "network", "")))
                if spec.kind in ("low_data", "observed_network"):
                    network = KINDS[spec.kind].is_large(spec)
                if spec.kind in ("deep_rfm", "residual", "tradeoffs"):
                    # Their small networks are called so too.
                    network = scale == "paper"
                if spec.kind in ("decoder", "pretrained"):
                    # Only language models and bigram-backcopy are large.
                    network = scale == "paper" and spec.dataset is not None
                if spec.kind == "noisy_classifier":
                    # Single precision is for processors.
                    network = spec.precision == "mixed"
                # A kernel matrix of all samples, a pretrained model or a stack of 400 networks
                # needs a GPU for itself.
                alone = ("deep_rfm", "pretrained", "tradeoffs")
                assert (cost.gpu_slots > 0) == network
                assert (cost.group == "gpu") == (network and spec.kind not in alone)
                assert cost.group == "alone" or not (network and spec.kind in alone)
                assert scale != "smoke" or cost.group == "short"
                # At a scale without GPUs cores do it, but for networks that were never timed there.
                untimed = getattr(getattr(spec, "network", None), "kind", "") in (
                    "torchvision", "mixer", "vit"
                )  # fmt: skip
                without = cost.on_cores or cost
                assert not without.gpu_slots or untimed or spec.kind == "pretrained"


def test_large_states_are_in_the_memory_that_a_job_asks_for(root):
    """The networks of the notebook keep 838 MiB, and their job used 2,830 MiB on a cluster."""
    plan = make_plan(root, {"scale": "desktop", "studies": ["agop"]})
    (notebook,) = [part for part in plan.parts.values() if part.run == "notebook"]
    assert 2830 * 2**20 / 1e6 < cost_of(notebook).mem_mb < 5000


def test_more_work_asks_for_more(studies):
    spec = expand(studies["low_rank"], "fig6", Config(scale="laptop"))["fig6"]
    small = training_cost(spec, 1)
    long = training_cost(spec.model_copy(update={"steps": 300 * spec.steps}), 1)
    wide = training_cost(spec.model_copy(update={"width": 20 * spec.width}), 1)
    many = training_cost(spec, 400)
    assert long.minutes > small.minutes and long.group == "alone" and long.mem_mb == small.mem_mb
    assert wide.mem_mb > small.mem_mb and many.mem_mb > small.mem_mb


@pytest.mark.parametrize(("study", "run", "milliseconds"), [
    ("depth", "rn1_mnist-depth2", 14), ("depth", "rn1_mnist-depth34", 68),
    ("depth", "rn1_cifar10-depth2", 46), ("depth", "rn1_cifar10-depth34", 67),
    ("depth", "rn2_mnist-depth34", 68), ("depth", "t11_mnist-depth8", 118),
    ("dufm", "rec_width-L6-width256", 38), ("low_rank", "fig2_top", 1.6),
    ("low_rank", "fig3_right_wide-width256", 8.6), ("low_rank", "fig2_bottom", 21),
])  # fmt: skip
def test_the_time_of_a_step_is_near_what_was_measured(studies, study, run, milliseconds):
    """A step of all seeds: those of depth and fig2_bottom on a core of two, others of many busy."""
    spec = expand(studies[study], run.partition("-")[0], Config(scale="desktop"))[run]
    steps = spec.steps if spec.kind == "dufm" else spec.epochs
    if spec.kind != "dufm" and spec.batch != "full":
        steps *= 10 * spec.per_class // spec.batch
    cost = training_cost(spec, spec.seeds)
    assert cost.gpu_slots == 0 and cost.threads == 1
    assert 1 / 1.7 < 1e3 * cost.work.seconds / steps / milliseconds < 1.4


class BytesMoved(TorchDispatchMode):
    """The bytes of all operands and results of the operations in a block, without views."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        found = operation(*arguments, **(options or {}))
        is_empty = operation.__name__.startswith(("empty", "new_"))
        if not (operation.is_view or is_empty):
            tensors = tree_leaves((arguments, options, found))
            self.bytes += sum(self._stored(x) for x in tensors if isinstance(x, torch.Tensor))
        return found

    @staticmethod
    def _stored(x):
        """What is expanded is stored, and read, once."""
        sides = (size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
        return x.element_size() * math.prod(sides)


def bytes_moved(spec, positions):
    """In a block of a residual network, for each matrix and position of a sample."""
    found = {}
    for depth in (5, 10):
        deep = spec.model_copy(update={"depth": depth})
        generators, inputs = [torch.Generator().manual_seed(0)] * 5, 64
        params = initialise(deep, inputs, positions, 10, generators, torch.float32)
        params = {name: value.to("meta") for name, value in params.items()}
        shape = (5, spec.batch, *([positions] if positions > 1 else []))
        tokens = spec.network.kind == "tokens"
        data = torch.zeros(shape, dtype=torch.int64) if tokens else torch.zeros(*shape, inputs)
        places = torch.zeros(5, spec.batch, dtype=torch.int64, device="meta")
        with BytesMoved() as moved:
            by_hand.gradients(params, deep, data.to("meta"), places, places)
        found[depth] = moved.bytes
    matrices = spec.network.mlp + 2 * getattr(spec.network, "attention", 0)
    return (found[10] - found[5]) / (5 * 5 * spec.batch * positions * matrices)


@pytest.mark.parametrize(
    "run, positions, kilobytes",
    [
        ("rn1_mnist", 1, 7.8),
        ("rn2_mnist", 1, 4.8),
        ("t11_cifar10", 16, 6.7),
        ("t11_imdb", 128, 9.2),
    ],
)
def test_a_gpu_gets_half_of_its_bandwidth_for_a_position(studies, run, positions, kilobytes):
    spec = next(iter(expand(studies["depth"], run, Config(scale="paper")).values()))
    moved = bytes_moved(spec, positions)
    assert moved == pytest.approx(1000 * kilobytes, rel=0.01)
    # An H200 has 4.8 TB/s.
    seconds = moved / (4.8e12 / 2)
    assert seconds <= SECONDS_PER_UNIT["position on a GPU"] <= 2.1 * seconds


def test_where_a_cluster_runs_what(root):
    cluster = {"partition": "cpu", "gpu_partition": "a", "gpu": "gpu:a100:2"}
    plan = make_plan(root, {"scale": "paper", "cluster": cluster})
    asked = {name: plan.resources(job) for name, job in plan.parts.items()}
    for resources in asked.values():
        on_gpu = bool(resources["gres"])
        assert resources["slurm_partition"] == ("a" if on_gpu else "cpu")
        assert resources["gres"] in ("", "gpu:a100:2")
    assert {bool(resources["gres"]) for resources in asked.values()} == {True, False}


def test_stages_of_active_learning_on_a_cluster(root):
    """A group for each stage; a stage asks for what its number of labels takes."""
    plan = make_plan(root, {"scale": "paper", "studies": ["fc_low_data"]})
    stages = [plan.parts["fc_low_data", "entropy", f"seed0-stage{i}"] for i in range(10)]
    assert [plan.group(part) for part in stages] == [f"round{i}_gpu" for i in range(10)]
    minutes = [cost_of(part).minutes for part in stages]
    assert minutes == sorted(minutes) and minutes[-1] > minutes[0]
    assert [part.previous_stage for part in stages] == [None, *stages[:-1]]
    assert {part.starts_from for part in stages} == {None}
    # What goes on from the weights of the stage before also needs its states.
    llal = plan.parts["fc_low_data", "llal", "seed3-stage4"]
    assert llal.starts_from is llal.previous_stage and llal.starts_from.part == "seed3-stage3"
    small = make_plan(root, {"scale": "laptop", "studies": ["fc_low_data"]})
    tuned = small.parts["fc_low_data", "fr_c101", "all"]
    assert small.group(tuned) == "tuned_short" and small.group(tuned.starts_from) == "short"
    first = small.parts["fc_low_data", "llal_c101", "all-stage1"]
    assert first.starts_from.run == "pretraining" and first.previous_stage.part == "all-stage0"
    # At paper scale the weights are those of ImageNet: no pretraining, and another card.
    assert not [run for _, run, _ in plan.parts if run.startswith("pretraining")]
    part = plan.parts["fc_low_data", "fr_c101", "seed0"]
    assert part.datasets == ["caltech101", "resnet18_imagenet"] and part.starts_from is None


def test_fixmatch_counts_the_unlabelled_images(root):
    """Ten for a labelled one, each weakly and strongly augmented."""
    wanted = {"scale": "paper", "studies": ["fc_low_data"], "extras": ["optional_fixmatch"]}
    part = make_plan(root, wanted).parts["fc_low_data", "fixmatch", "seed0"]
    joint = replace(part, spec=part.spec.model_copy(update={"method": "joint"}))
    assert cost_of(part).work.amount == 21 * cost_of(joint).work.amount


def test_a_pretraining_that_is_none_is_named(root):
    run = {"pretrained": "plain"}
    with pytest.raises(ConfigError, match="pretrained = 'plain' is not a run of one job"):
        make_plan(root, {"overrides": {"fc_low_data": {"fr_c101": run}}})


@pytest.mark.parametrize(
    "cluster",
    [{"account": "a; rm -rf ~"}, {"extra": "$(id)"}, {"gpu": "all"}, {"partition": "a'b"}],
)
def test_what_the_shell_would_understand_is_refused(cluster):
    with pytest.raises(ConfigError, match="cluster"):
        load_config({"cluster": cluster})


@pytest.mark.slow
def test_a_certification_on_a_cluster(root):
    """Its own groups; a GPU where its classifier has one; slices share the draws."""
    small = make_plan(root, {"scale": "laptop", "studies": ["idrs"]})
    large = make_plan(root, {"scale": "paper", "studies": ["idrs"]})
    part = small.parts["idrs", "constant-sigma_b0.25", "all"]
    assert small.group(part) == "certify_short" and small.group(part.starts_from) == "short"
    assert small.resources(part)["gres"] == "" and part.seeds == (0, 1, 2)
    parts = [large.parts["idrs", "constant-sigma_b0.25", f"seed0-slice{i}"] for i in range(5)]
    assert {large.group(part) for part in parts} == {"certify_gpu"}
    assert (
        large.group(parts[0].starts_from) == "gpu" and large.resources(parts[0])["gres"] == "gpu:1"
    )
    whole = training_cost(
        parts[0].spec.model_copy(update={"slices": 1}), 1, parts[0].starts_from.spec
    )
    assert cost_of(parts[0]).minutes < whole.minutes


def test_at_desktop_nothing_asks_for_a_gpu_and_two_jobs_fit_in_8_gib(root):
    plan = make_plan(root, {"scale": "desktop", "studies": ["idrs", "sinks", "mol"]})
    costs = [plan.cost(part) for part in plan.parts.values()]
    assert costs and not any(cost.gpu_slots for cost in costs)
    assert {cost.threads for cost in costs} == {1} and max(c.mem_mb for c in costs) < 4096


def test_passes_through_a_network_follow_its_depth_and_the_draws(studies):
    desktop = Config(scale="desktop")
    mixed = expand(studies["idrs"], "base", desktop)["base-sigma0.25"]
    assert mixed.precision == "mixed"
    base = mixed.model_copy(update={"precision": "float32"})
    count = expand(studies["idrs"], "constant", desktop)["constant-sigma_b0.25"]
    cost = training_cost(count, 1, base)
    assert cost.work.amount == count.images * (count.n + count.n0)
    deeper = base.model_copy(update={"network": base.network.model_copy(update={"depth": 110})})
    assert training_cost(count, 1, deeper).work.amount == pytest.approx(5.5 * cost.work.amount)
    on_gpu = training_cost(count, 1, mixed)
    assert on_gpu.gpu_slots and training_cost(mixed, 1).gpu_slots
    assert on_gpu.on_cores == cost
