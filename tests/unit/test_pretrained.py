"""Pretrained transformers: loaded from a folder, observed layer by layer as they compute."""

import gc
import hashlib
import json
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from replica.attention.pretrained import (
    FAMILIES,
    PretrainedError,
    load_model,
    observe,
    texts_as_tokens,
)
from replica.attention.pretrained_runs import train_pretrained
from replica.data.prepare import prepare_dataset
from replica.data.registry import DatasetEntry
from replica.measures import patterns
from replica.measures.tables import measure_table
from replica.models.attention import allowed
from replica.settings.validation import validate_run
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

CPU = torch.device("cpu")
B, T, L, H, D, WINDOW = 3, 9, 3, 4, 32, 5
WORDS = 36
COMMON = {
    "vocab_size": WORDS + 4, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": H,
    "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
WIDE = COMMON | {"intermediate_size": 48}
OPT = COMMON | {"ffn_dim": 48}
# OPT-350m: LayerNorm after the attention, embeddings narrower than the residual stream.
OPT_350M = OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 12}
# Weights spread this much attend to some tokens far more than to others.
SPREAD = 0.2
# Class and settings: transformers takes seconds to import, and few tests want it.
CONFIGS = {
    "gpt2": ("GPT2Config", dict(**COMMON)),
    "gpt2 by layer": ("GPT2Config", dict(**COMMON, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True)),
    "neox": ("GPTNeoXConfig", dict(**WIDE, rotary_pct=0.25)),
    "neox in turn": ("GPTNeoXConfig", dict(**WIDE, rotary_pct=0.5, use_parallel_residual=False)),
    "opt": ("OPTConfig", dict(**OPT)),
    "opt-350m": ("OPTConfig", dict(**OPT_350M)),
    "llama": ("LlamaConfig", dict(**WIDE, num_key_value_heads=2, attention_bias=True)),
    "mistral": ("MistralConfig", dict(**WIDE, num_key_value_heads=1, head_dim=12, sliding_window=WINDOW)),
}  # fmt: skip
# The normalisation of a layer's attention.
NORMS = {
    "gpt2": "ln_1", "neox": "input_layernorm", "opt": "self_attn_layer_norm",
    "llama": "input_layernorm", "mistral": "input_layernorm",
}  # fmt: skip


def tokenizer_of(**special):
    """One word a token; it sets BOS before a text by itself, as OPT's and Llama's do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", *(f"w{n}" for n in range(WORDS))]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    special = special or {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", model_max_length=16, **special
    )


def save(name, folder, **options):
    torch.manual_seed(0)
    import transformers

    kind, settings = CONFIGS[name]
    config = getattr(transformers, kind)(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        # Of one dimension: biases, and the factors of the normalisations, for which 1 is usual.
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=SPREAD)
    model.save_pretrained(folder, **options)
    tokenizer_of().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained")
    return {name: save(name, root / name) for name in CONFIGS}


@pytest.fixture(scope="module", params=CONFIGS)
def observed(request, folders):
    """Name, model, tokens, losses and `Observed` of all layers."""
    model, _ = load_model(folders[request.param], CPU)
    tokens = torch.randint(WORDS, (B, T), generator=torch.Generator().manual_seed(1))
    layers = {}
    losses = observe(model, tokens, layers.__setitem__)
    assert list(layers) == list(range(L))
    return request.param, model, tokens, losses, list(layers.values())


@pytest.fixture
def copied(tmp_path):
    """A folder that a test may damage."""
    return save("gpt2", tmp_path / "gpt2")


def layers_of(model):
    """Layers with their attention modules."""
    family = FAMILIES[type(model).__name__]
    layers = model.get_submodule(family.layers)
    return [(layer, layer.get_submodule(family.attention)) for layer in layers]


@torch.no_grad()
def test_weights_are_the_models_own(observed):
    name, model, tokens, _, layers = observed
    own = model(tokens, output_attentions=True).attentions
    seen = allowed(T)
    if name == "mistral":
        seen = seen & ~torch.ones(T, T, dtype=torch.bool).tril(-WINDOW)
    for A, layer in zip(own, layers, strict=True):
        assert layer.A.shape == (1, B, H, T, T)
        torch.testing.assert_close(layer.A[0], A, atol=1e-5, rtol=0)
        # q and k with their positions, options and groups give the same weights again.
        again = layer.logits[0].masked_fill(~seen, -torch.inf).softmax(-1)
        torch.testing.assert_close(again, A, atol=1e-5, rtol=0)
        assert not layer.A[0].masked_select(~seen).any()
    # All keys alike would give 1/T.
    assert own[0][..., -1, :].max() > 2 / T


@torch.no_grad()
def test_outputs_are_the_modules_own(observed):
    _, model, tokens, _, layers = observed
    whole = []
    hooks = [
        attention.register_forward_hook(lambda module, args, result: whole.append(result[0]))
        for _, attention in layers_of(model)
    ]
    model(tokens)
    for hook in hooks:
        hook.remove()
    for (_, attention), layer, result in zip(layers_of(model), layers, whole, strict=True):
        module = attention.get_submodule(FAMILIES[type(model).__name__].output)
        bias = 0 if module.bias is None else module.bias
        assert layer.outputs.shape == layer.values.shape == (1, B, H, T, D)
        torch.testing.assert_close(layer.outputs[0].sum(1) + bias, result, atol=1e-5, rtol=0)
        torch.testing.assert_close(layer.A @ layer.values, layer.outputs, atol=1e-5, rtol=0)


@torch.no_grad()
def test_inputs_and_residual_are_the_models_own(observed):
    name, model, tokens, _, layers = observed
    stream = model(tokens, output_hidden_states=True).hidden_states
    for (module, _), layer, residual in zip(layers_of(model), layers, stream, strict=False):
        torch.testing.assert_close(layer.residual[0], residual, atol=1e-5, rtol=0)
        norm = module.get_submodule(NORMS[name.split()[0].removesuffix("-350m")])
        inputs = residual if name == "opt-350m" else norm(residual)
        torch.testing.assert_close(layer.inputs[0], inputs, atol=1e-5, rtol=0)


@torch.no_grad()
def test_grouped_heads_share_keys_and_values(observed):
    name, _, _, _, layers = observed
    groups = {"llama": 2, "mistral": 1}.get(name, H)
    width = 12 if name == "mistral" else D // H
    for layer in layers:
        assert layer.q.shape == layer.k.shape == layer.v.shape == (1, B, H, T, width)
        for x, number in ((layer.q, H), (layer.k, groups), (layer.v, groups)):
            assert len({tuple(head.flatten().tolist()) for head in x[0].unbind(1)}) == number


@torch.no_grad()
def test_losses_are_the_models_own(observed):
    _, model, tokens, losses, _ = observed
    assert losses.shape == (B,) and not losses.requires_grad
    for text, loss in zip(tokens, losses, strict=True):
        torch.testing.assert_close(loss, model(text[None], labels=text[None]).loss)


@pytest.mark.slow
def test_one_layer_of_maps_is_alive_at_a_time(observed):
    name, model, tokens, _, _ = observed
    if name == "neox":
        # A config.json may ask for what would keep all of them.
        model.config.output_attentions = True
    size = B * H * T * T

    def maps():
        found = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.shape[-2:] == (T, T)]
        return {x.data_ptr() for x in found if x.numel() >= size}

    before, alive = maps(), []
    observe(model, tokens, lambda number, layer: alive.append(len(maps() - before)))
    assert alive == [1] * L
    assert maps() == before


def test_hooks_are_removed_when_something_fails(folders):
    model, _ = load_model(folders["opt"], CPU)

    def fail(number, layer):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        observe(model, torch.zeros(1, T, dtype=torch.int64), fail)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_texts_must_fit_the_model(folders):
    model, _ = load_model(folders["gpt2"], CPU)
    with pytest.raises(PretrainedError, match=r"17 tokens do not fit .*gpt2, whose context is 16:"):
        observe(model, torch.zeros(1, 17, dtype=torch.int64), lambda number, layer: None)
    with pytest.raises(PretrainedError, match=r"Token 40 is not one of the 40 of .*gpt2: put"):
        observe(model, torch.full((1, 2), 40), lambda number, layer: None)


@pytest.mark.parametrize("name", CONFIGS)
def test_models_are_loaded_as_they_were_saved(name, folders, monkeypatch):
    called = []
    monkeypatch.setattr(socket.socket, "connect", lambda *args: called.append(args))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: called.append(args))
    model, tokenizer = load_model(folders[name], CPU)
    assert not called
    assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "eager"
    assert tokenizer.convert_tokens_to_ids("w3") == 6


def test_weights_in_other_forms(tmp_path):
    """In half precision, in several files, and as PyTorch writes them."""
    folder = save("neox", tmp_path / "neox")
    whole = load_model(folder, CPU)[0].half()
    (folder / "model.safetensors").unlink()
    torch.save(whole.state_dict(), folder / "pytorch_model.bin")
    change_config(folder, dtype="float16")
    again = load_model(folder, CPU)[0]
    split = tmp_path / "split"
    again.save_pretrained(split, max_shard_size="20KB")
    tokenizer_of().save_pretrained(split)
    assert (split / "model.safetensors.index.json").is_file()
    for other in (again, load_model(split, CPU)[0]):
        for p, q in zip(whole.float().parameters(), other.parameters(), strict=True):
            assert q.dtype == torch.float32 and torch.equal(p, q)


def test_code_in_the_folder_is_never_run(copied):
    config = json.loads((copied / "config.json").read_text())
    reference = {"AutoModelForCausalLM": "theirs.Model", "AutoConfig": "theirs.Config"}
    (copied / "config.json").write_text(json.dumps(config | {"auto_map": reference}))
    (copied / "theirs.py").write_text("raise SystemExit('was run')")
    assert type(load_model(copied, CPU)[0]).__module__.startswith("transformers.models.gpt2")


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def halve(name):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def as_pytorch(*lost, **changed):
    """The weights in PyTorch's form, without some of them or with others in their place."""

    def damage(folder):
        weights = load_model(folder, CPU)[0].state_dict()
        weights = {name: w for name, w in weights.items() if name not in lost} | changed
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()

    return damage


BROKEN = {
    "no config": (remove("config.json"), "has no config.json: copy all files"),
    "damaged config": (halve("config.json"), r"config.json is damaged or names no arch.*: copy it"),
    "nameless": (lambda folder: change_config(folder, architectures=None), "names no architectures"),
    "other class": (
        lambda folder: change_config(folder, architectures=["BertForMaskedLM"]),
        "holds a BertForMaskedLM, which is not supported: choose a model of one of GPT2LMHeadModel, "
        "GPTNeoXForCausalLM, OPTForCausalLM, LlamaForCausalLM, MistralForCausalLM.",
    ),
    "no weights": (
        remove("model.safetensors"), "has no weights: copy model.safetensors or pytorch_model.bin of",
    ),
    "no tokenizer": (
        remove("tokenizer.json"),
        "has no tokenizer: copy tokenizer.json or vocab.json and merges.txt or tokenizer.model of",
    ),
    "damaged tokenizer": (halve("tokenizer.json"), r"The tokenizer in .* cannot be read .*: copy"),
    "damaged weights": (
        halve("model.safetensors"), r"The weights in .* cannot be read \(SafetensorError: .*\): copy",
    ),
    "a pointer to weights": (
        lambda folder: (folder / "model.safetensors").write_text("version 1\noid sha256:0\n"),
        r"The weights in .* cannot be read \(SafetensorError: .*\): copy",
    ),
    "other shape": (
        as_pytorch(**{"transformer.wpe.weight": torch.zeros(4, D)}),
        r"The weights in .* cannot be read \(RuntimeError: .*\): copy",
    ),
    "missing weight": (
        as_pytorch("transformer.h.1.ln_1.bias"),
        r"are incomplete, transformer\.h\.1\.ln_1\.bias is missing: copy them again",
    ),
    "damaged PyTorch weights": (
        lambda folder: (as_pytorch()(folder), halve("pytorch_model.bin")(folder)),
        r"The weights in .* cannot be read \(.*\): copy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_a_sentence(case, copied):
    damage, sentence = BROKEN[case]
    damage(copied)
    with pytest.raises(PretrainedError, match=sentence) as caught:
        load_model(copied, CPU)
    assert str(copied) in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(PretrainedError, match=r"There is no folder .*none: put a pretrained model"):
        load_model(tmp_path / "none", CPU)


def test_a_missing_shard_is_a_sentence(tmp_path):
    folder = save("opt", tmp_path / "opt", max_shard_size="20KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(PretrainedError, match=r"The weights in .* cannot be read"):
        load_model(folder, CPU)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


TEXTS = [" ".join(f"w{(3 * n + start) % WORDS}" for n in range(40)) for start in range(5)]
BOS = 0


@pytest.mark.parametrize("bos", [False, True])
def test_natural_texts(bos):
    tokenizer = tokenizer_of()
    assert tokenizer(TEXTS[0])["input_ids"][0] == BOS
    tokens = texts_as_tokens(tokenizer, TEXTS, 8, "natural", generator(), bos)
    assert tokens.shape == (5, 8) and tokens.dtype == torch.int64
    # Word n is token n + 3.
    words = [[3 + (3 * n + start) % WORDS for n in range(8 - bos)] for start in range(5)]
    assert tokens[:, int(bos) :].tolist() == words
    assert tokens[:, 0].eq(BOS).all() == bos


@pytest.mark.parametrize("bos", [False, True])
def test_random_texts(bos):
    texts = [""] * 40
    tokens = texts_as_tokens(tokenizer_of(), texts, 200, "random", generator(), bos)
    assert tokens.shape == (40, 200) and tokens.dtype == torch.int64
    assert tokens[:, 0].eq(BOS).all() == bos
    counts = tokens[:, int(bos) :].flatten().bincount(minlength=WORDS + 3)
    assert counts[:3].sum() == 0
    expected = counts.sum() / WORDS
    assert (counts[3:] - expected).abs().max() < 5 * expected.sqrt()
    again = texts_as_tokens(tokenizer_of(), texts, 200, "random", generator(), bos)
    assert torch.equal(tokens, again)


@pytest.mark.parametrize("bos", [False, True])
def test_repeated_texts(bos):
    tokens = texts_as_tokens(tokenizer_of(), [""] * 40, 8, "repeated", generator(), bos)
    assert tokens.shape == (40, 8) and tokens.dtype == torch.int64
    assert tokens[:, 0].eq(BOS).all() == bos
    rest = tokens[:, int(bos) :]
    assert rest.eq(rest[:, :1]).all() and rest.min() >= 3
    assert len(rest.unique()) > 10


def test_the_end_of_texts_stands_in_for_bos():
    for special in ({"eos_token": "</s>"}, {"bos_token": "</s>", "eos_token": "</s>"}):
        tokens = texts_as_tokens(tokenizer_of(**special), TEXTS, 4, "natural", generator(), True)
        assert tokens[:, 0].eq(1).all()
    with pytest.raises(PretrainedError, match="neither a BOS nor an EOS token: observe the model"):
        texts_as_tokens(tokenizer_of(pad_token="</s>"), TEXTS, 4, "natural", generator(), True)


def test_short_texts_are_a_sentence():
    texts = [TEXTS[0], "w1 w2 w3"]
    assert texts_as_tokens(tokenizer_of(), texts, 4, "natural", generator(), True).shape == (2, 4)
    with pytest.raises(PretrainedError, match="Text 2 has 3 tokens, 4 are needed: choose longer"):
        texts_as_tokens(tokenizer_of(), texts, 4, "natural", generator(), False)


def test_long_texts_are_cut_without_a_warning(capsys, caplog):
    texts_as_tokens(tokenizer_of(), TEXTS, 4, "natural", generator(), False)
    assert not caplog.text and "longer than" not in "".join(capsys.readouterr())


@pytest.mark.slow
def test_transformers_is_not_imported_with_the_module():
    code = "import sys, replica.attention.pretrained; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ----------------------------------------------------------------- the run


@pytest.mark.slow
def test_a_run_probes_the_model_and_leaves_a_table(folders, tmp_path):
    generator = torch.Generator().manual_seed(0)
    text = " ".join(f"w{n}" for n in torch.randint(WORDS, (800,), generator=generator).tolist())
    (tmp_path / "text.txt").write_text(text)
    entry = DatasetEntry(
        name="words", title="words", kind="text_file", licence="made here",
        files={"text.txt": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"},
    )  # fmt: skip
    card = prepare_dataset(entry, tmp_path, tmp_path / "words")
    probes = {"rates": {"texts": 5, "lengths": [6, 12]}, "switch": 4, "alignment": 4, "smoothing": 4,
              "costs": {"texts": 2, "n": [4]}, "layers": 4, "spread": 4}  # fmt: skip
    spec = validate_run(
        {"kind": "pretrained", "model": "gpt2", "dataset": "words", "bos": True, "context": 12,
         "probes": probes, "seeds": 2}, "a run",
    )  # fmt: skip
    job = Job("sinks", "run", (0, 1), Checkpoint(None), CPU, 1, card=card, cards={"words": card},
              pretrained=folders["gpt2"].parent)  # fmt: skip
    states = train_pretrained(spec, job).states
    states = {name: value.numpy() for name, value in states.items()}
    table = measure_table(spec, states, run="run", threads=1, card=card)
    # Weights of a pretrained model cannot be edited: there are no interventions.
    assert set(table["probe"]) == {"rates", "switch", "alignment", "smoothing", "costs", "layers", "spread"}  # fmt: skip
    assert (table["model"] == "gpt2").all() and (table["task"] == "pretrained").all()
    rates = table[(table["probe"] == "rates") & (table["input"] == "natural") & (table["T"] == 12)]
    assert len(rates) == 2 * L * H * 5
    # Natural texts do not depend on the seed; the first one by hand.
    model, tokenizer = load_model(folders["gpt2"], CPU)
    size = len(text) // 5
    parts = [text[i * size : (i + 1) * size] for i in range(5)]
    tokens = texts_as_tokens(tokenizer, parts, 12, "natural", generator, True)
    seen = {}
    observe(model, tokens, seen.__setitem__)
    alpha = patterns.importance(seen[1].A[0, :, 2])[:, 0].mean().item()
    found = rates[(rates["layer"] == 2) & (rates["head"] == 3)]
    assert found["alpha1"].tolist() == pytest.approx([alpha] * 10, rel=1e-5)
