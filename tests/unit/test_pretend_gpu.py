"""What can go wrong on a GPU is found without one: every kind of run on a GPU that is pretended.

Found here: tensors of two devices in one operation, also in a backward pass; a tensor that was
never moved; arrays made of a tensor on a GPU (`.numpy()`); a generator of the other device; matrix
products of whole numbers; states that another device makes different; a checkpoint that resumes
only where it was written; what mixed precision, memory that is short and hidden GPUs lead to.

Not found here, and seen on a GPU alone (`make gpu-check`): wrong or missing kernels of CUDA, their
rounding (TF32 among it) and their limits; which operations CUDA's autocast computes in bfloat16,
for which the processor's stands in; what the compiler makes of a network; tensors that a function
of torch makes inside on the wrong device; errors of a stream; memory; speed.
"""

import contextlib
import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from pretend_gpu import GPU, Generator, on_gpu, pretend_gpu
from torch.nn import functional as F

from replica import kinds
from replica.gpu_check.cases import CASES, Case, Jobs, apart, difference, parts_of, smoke_plan
from replica.gpu_check.checks import NETWORKS
from replica.kernels import ridge
from replica.lowdata import losses
from replica.models.backbones import build_network
from replica.models.stacked import Stack
from replica.settings.validation import validate_run
from replica.training import loop
from replica.training.checkpoint import Checkpoint
from replica.training.precision import autocast, in_words

CPU = torch.device("cpu")
# So few images have none of some classes.
pytestmark = pytest.mark.filterwarnings("ignore:.*these classes cannot be learnt")


@pytest.fixture(scope="module")
def jobs(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretended")
    return Jobs(smoke_plan(root), folder, folder)


def case(name: str) -> Case:
    return next(each for each in CASES if each.name == name)


# ------------------------------------------------------------------------------ every kind


def test_each_kind_has_a_case(jobs):
    covered = {part.spec.kind for each in CASES for part in parts_of(jobs.plan, each)}
    # A pretrained model needs a package of its own: tests/unit/test_pretrained.py.
    assert covered == set(kinds.KINDS) - {"pretrained"}


@pytest.mark.slow
@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_a_run_on_a_gpu(jobs, each):
    """It trains and is measured; where no noise is drawn on the device, it is that of a processor."""
    for part in parts_of(jobs.plan, each):
        expected = jobs.on_cpu(part)
        with pretend_gpu() as gpu:
            made = jobs.run(part, gpu)
        assert len(jobs.measured(part, made))
        for found in apart(jobs, each, part, made, expected):
            assert found.value <= found.limit, found
        mixed = getattr(part.spec, "precision", None) == "mixed"
        if not (mixed or each.drawn):
            assert difference(made.states, expected.states)[1] < 1e-5


class Stops(Checkpoint):
    """A checkpoint of a job that is asked to stop at once."""

    def member(self, name):
        inner = Checkpoint.member(self, name)
        inner.stopping = True
        return inner


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["dufm rec_threshold-L3", "idrs base-sigma0.25", "agop relu", "depth t11_imdb-depth2", "sinks lm",
     "fc_low_data fr", "agop mlp", "mol networks"],
)  # fmt: skip
def test_a_stopped_run_goes_on_on_a_gpu(jobs, tmp_path, name):
    """Its checkpoint holds tensors of the processor, which a GPU and a processor read."""
    part, path = parts_of(jobs.plan, case(name))[0], tmp_path / "kept.safetensors"
    with pretend_gpu() as gpu:
        whole = jobs.run(part, gpu)
        stopping = Stops(path, every=0.0, stopping=True)
        with pytest.raises(SystemExit):
            jobs.run(part, gpu, stopping)
        assert list(tmp_path.iterdir())
        resumed = jobs.run(part, gpu, Checkpoint(path))
    assert difference(resumed.states, whole.states)[1] == 0


@pytest.mark.slow
def test_counts_go_on_on_a_gpu(jobs, tmp_path):
    part, path = parts_of(jobs.plan, case("idrs constant-sigma_b0.25"))[0], tmp_path / "counts"
    with pretend_gpu() as gpu:
        whole = jobs.run(part, gpu)
        with pytest.raises(SystemExit):
            jobs.run(part, gpu, Checkpoint(path, every=0.0, stopping=True))
        resumed = jobs.run(part, gpu, Checkpoint(path))
    assert difference(resumed.states, whole.states)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_measured_on_a_gpu(jobs, name):
    """Their passes, gradients and products with Hessians."""
    part = parts_of(jobs.plan, case(name))[0]
    made = jobs.on_cpu(part)
    expected = jobs.networks(part, made, CPU)
    with pretend_gpu() as gpu:
        found = jobs.networks(part, made, gpu)
    pd.testing.assert_series_equal(found, expected)


# ------------------------------------------------------------------------------ memory


@pytest.mark.slow
def test_a_kernel_matrix_that_a_gpu_does_not_hold(jobs, monkeypatch, capsys):
    """Its memory is looked at, not that of the machine; blocks are computed instead."""
    with pretend_gpu(free=3.4 * 100**2 * 8) as gpu:
        assert ridge.fits(100, torch.float64, gpu) and not ridge.fits(110, torch.float64, gpu)
    x = F.normalize(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).double())
    y = F.one_hot(torch.arange(60) % 3).double()
    expected = ridge.solve(x, y, "laplace", 2.0, 0.1).weights
    with pretend_gpu(free=1000) as gpu:
        solution = ridge.solve(x.to(gpu), y.to(gpu), "laplace", 2.0, 0.1)
        assert solution.weights.device == gpu
        found = solution.weights.cpu()
    assert "does not fit into the memory" in capsys.readouterr().err
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------ compiled, mixed

NETWORK = {
    "kind": "low_data", "dataset": "digits", "pixel_max": 16, "n": [20], "lr": 0.05, "momentum": 0.9,
    "network": {"kind": "staged_resnet", "widths": [4, 8], "blocks": [1, 1]}, "batch": 10,
    "weight_decay": 5e-4, "steps": 6, "padding": 1, "seeds": 2, "refiner": {"width": 4},
}  # fmt: skip


def trained(precision: str, compiles: bool, stacked: bool) -> dict[str, torch.Tensor]:
    """The parameters after two epochs of what a GPU is given, on the processor."""
    spec = validate_run(NETWORK, "a test")
    networks = [build_network(spec, (1, 8, 8), 10, seed) for seed in range(2 if stacked else 1)]
    model = (Stack(networks) if stacked else networks[0]).to(memory_format=torch.channels_last)
    if compiles:
        model.compile(backend="aot_eager")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(20 * len(networks), 1, 8, 8, generator=generator)
    labels = torch.randint(10, (len(images),), generator=generator)

    def objective(module, x, y):
        outputs = module(x) if stacked else [module(x)]
        each = [
            losses.joint(o, own) for o, own in zip(outputs, y.chunk(len(networks)), strict=True)
        ]
        return {f"{n}/{s}": value for s, own in enumerate(each) for n, value in own.items()}

    recipe = loop.Recipe(lr=0.05, epochs=2, batch=10, momentum=0.9, precision=precision, padding=1)
    loop.train(model, images, labels, objective, recipe, seed=list(range(len(networks))),
               snapshot_epochs=[], checkpoint=Checkpoint(None))  # fmt: skip
    return {name: value.detach() for name, value in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_training_is_the_same(precision, stacked):
    """Traced whole, forward and backward; without the compiler's own code."""
    plain, compiled = (trained(precision, compiles, stacked) for compiles in (False, True))
    limit = 1e-4 if precision == "float32" else 0.1
    assert plain.keys() == compiled.keys() and difference(compiled, plain)[1] < limit


def test_mixed_precision_is_bfloat16_on_a_gpu():
    with pretend_gpu() as gpu:
        x = torch.ones(2, 2, device=gpu)
        with autocast("mixed", gpu):
            assert (x @ x).dtype == torch.bfloat16
        with autocast("float32", gpu):
            assert (x @ x).dtype == torch.float32
        assert in_words(gpu) == "cuda:0 (Pretended)"


# ------------------------------------------------------------------------------ the pretence


def test_a_tensor_is_where_it_was_put():
    with pretend_gpu() as gpu:
        x = torch.zeros(3, 4, device="cuda")
        same = [x[1:], x.T, x + 1, x.new_zeros(2), torch.zeros_like(x), x.double(), x.to(gpu),
                torch.tensor([1.0], device=gpu), torch.as_tensor(x), torch.ones(3).to(x),
                torch.ones(2).to(device=gpu, dtype=torch.float64), F.one_hot(x.long(), 2)]  # fmt: skip
        assert all(y.device == GPU and y.is_cuda for y in same)
        other = [x.cpu(), x.to("cpu"), torch.zeros(2), torch.zeros_like(x, device="cpu")]
        assert not any(y.is_cuda for y in other)
        model = torch.nn.Linear(4, 2)
        weight = model.weight
        model.to(gpu)
        assert weight is model.weight and weight.device == GPU
        model(x).sum().backward()
        assert on_gpu(weight.grad)
        y = torch.zeros(2)
        y.copy_(x[0, :2])
        assert y.device == CPU
    assert torch.zeros(1).device == CPU and not torch.cuda.is_available()


FAULTS = {
    "same device": lambda gpu: torch.zeros(3, device=gpu) + torch.zeros(3),
    "to be on the same": lambda gpu: torch.cat([torch.zeros(1, device=gpu), torch.zeros(1)]),
    "be on the same device": lambda gpu: torch.zeros(3)[torch.tensor([1], device=gpu)],
    "'cuda' device type for generator": lambda gpu: torch.rand(3, generator=torch.Generator(), device=gpu),
    "'cpu' device type for generator": lambda gpu: torch.rand(3, generator=torch.Generator(gpu)),
    "convert cuda:0 device type": lambda gpu: torch.zeros(3, device=gpu).numpy(),
    "not implemented for torch.int64": lambda gpu: torch.ones(2, 2, dtype=torch.int64, device=gpu).matmul(
        torch.ones(2, 2, dtype=torch.int64, device=gpu)
    ),
}  # fmt: skip
ALLOWED = [
    lambda gpu: torch.zeros(3, device=gpu) + torch.tensor(1.0),
    lambda gpu: torch.zeros(3, device=gpu)[torch.tensor([1])],
    lambda gpu: torch.zeros(3, device=gpu).copy_(torch.ones(3)),
    lambda gpu: torch.zeros(3, device=gpu).sum().item(),
    lambda gpu: torch.zeros(3, device=gpu).tolist(),
    lambda gpu: torch.zeros(3, device=gpu).cpu().numpy(),
]


@pytest.mark.parametrize("words", FAULTS)
def test_what_a_gpu_refuses_is_refused(words):
    with pretend_gpu() as gpu, pytest.raises((RuntimeError, TypeError), match=words):
        FAULTS[words](gpu)


@pytest.mark.parametrize("call", ALLOWED)
def test_what_a_gpu_does_is_done(call):
    with pretend_gpu() as gpu:
        call(gpu)


# Module, text in it, what a mistake would have there, the case that runs it, what is said.
PLANTED = [
    ("replica.training.dufm", "lambda_w, lambda_h, lr = (x.to(job.device) for x in",
     "lambda_w, lambda_h, lr = (x for x in", "dufm rec_threshold-L3", "same device"),
    ("replica.training.dufm", "inputs, targets = samples.inputs.to(job.device), samples",
     "inputs, targets = samples.inputs, samples", "low_rank fig2_bottom", "same device"),
    ("replica.smoothing.classifiers", "generator = torch.Generator(like.device).manual_seed(seed)",
     "pass", "idrs base-sigma0.25", "'cuda' device type for generator"),
    ("replica.kernels.deep_rfm", "torch.bincount(labels).cpu().numpy()",
     "torch.bincount(labels).numpy()", "agop relu", "convert cuda:0"),
    ("replica.residual.training", "inputs, ends, labels = (x.to(job.device) for x in",
     "inputs, ends, labels = (x for x in", "depth rn2_mnist-depth2", "same device"),
    ("replica.multiobjective.tradeoff_training", "x, y = x[None].to(device), y[None].to(device)",
     "x, y = x[None].to(device), y[None]", "mol networks", "same device"),
    ("replica.attention.training", '"held out", SEQUENCES).to(job.device)',
     '"held out", SEQUENCES)', "sinks tc-attentionsoftmax", "same device"),
]  # fmt: skip


@contextlib.contextmanager
def planted(module: str, text: str, mistake: str):
    """A copy of a module with a mistake takes the place of the module."""
    found = importlib.util.find_spec(module)
    source = Path(found.origin).read_text(encoding="utf-8")
    assert source.count(text) == 1
    copy, before = importlib.util.module_from_spec(found), importlib.import_module(module)
    sys.modules[module] = copy
    try:
        exec(compile(source.replace(text, mistake), found.origin, "exec"), vars(copy))
        yield
    finally:
        sys.modules[module] = before


@pytest.mark.slow
@pytest.mark.parametrize(("module", "text", "mistake", "name", "words"), PLANTED)
def test_a_mistake_that_is_put_in_is_found(jobs, module, text, mistake, name, words):
    part = parts_of(jobs.plan, case(name))[0]
    with planted(module, text, mistake):
        # On a processor nobody notices.
        jobs.run(part, CPU)
        with pretend_gpu() as gpu, pytest.raises((RuntimeError, TypeError), match=words):
            jobs.run(part, gpu)


def test_a_generator_says_where_it_is():
    assert Generator().device == CPU and Generator(GPU).device == GPU
    assert Generator(GPU).manual_seed(3).device == GPU
