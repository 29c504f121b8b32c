"""Pretrained decoder-only transformers from a local folder, observed one layer at a time.

What the probes read (`replica.models.attention.Observed`) is computed while the model's own forward
pass stands in a layer, and freed before it enters the next: the attention maps of all layers are
never in memory together. `transformers` is imported where it is needed, as that takes seconds.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from replica.models.attention import Observed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Any of these sets of files is a tokenizer.
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))


class PretrainedError(RuntimeError):
    """A folder does not hold a model that can be observed, or a text does not fit the model."""


@dataclass(frozen=True)
class Family:
    """Where a class of models keeps its attention.

    Attributes:
        layers: path of the list of layers inside the model.
        attention: name of the attention module inside a layer.
        project: attention module and inputs (B, T, d) -> q, k, v before rotary positions, each
            (B, T, heads * d_h), where k and v may have fewer heads than q.
        output: name of the module of W_O inside the attention module.
    """

    layers: str
    attention: str
    project: Callable[[nn.Module, Tensor], tuple[Tensor, ...]]
    output: str


def _in_one(attention: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
    """GPT-2: all of q, then all of k, then all of v."""
    return attention.c_attn(inputs).chunk(3, -1)


def _head_by_head(attention: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
    """GPT-NeoX: q, k and v of the first head, then those of the second, and so on."""
    together = attention.query_key_value(inputs).unflatten(-1, (-1, 3, attention.head_size))
    return tuple(x.flatten(-2) for x in together.unbind(-2))


def _apart(attention: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
    """OPT, Llama and Mistral: three matrices."""
    return attention.q_proj(inputs), attention.k_proj(inputs), attention.v_proj(inputs)


FAMILIES = {
    "GPT2LMHeadModel": Family("transformer.h", "attn", _in_one, "c_proj"),
    "GPTNeoXForCausalLM": Family("gpt_neox.layers", "attention", _head_by_head, "dense"),
    "OPTForCausalLM": Family("model.decoder.layers", "self_attn", _apart, "out_proj"),
    "LlamaForCausalLM": Family("model.layers", "self_attn", _apart, "o_proj"),
    "MistralForCausalLM": Family("model.layers", "self_attn", _apart, "o_proj"),
}


def load_model(
    folder: Path, device: torch.device
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Model in float32 for evaluation and its tokenizer; never from the network, never their code.

    Args:
        folder: with config.json, weights and tokenizer, as `save_pretrained` writes them.
        device: where the model goes.

    Raises:
        PretrainedError: something is missing, damaged or of a class that is not in `FAMILIES`.
    """
    _check_files(folder)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": False}
    # What damaged files raise is of many kinds, KeyError and SafetensorError among them.
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    except Exception as error:
        raise PretrainedError(
            f"The tokenizer in {folder} cannot be read ({_in_short(error)}): copy its files again."
        ) from error
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            **local,
        )
    except Exception as error:
        raise PretrainedError(
            f"The weights in {folder} cannot be read ({_in_short(error)}): copy them again."
        ) from error
    # transformers would draw these at random.
    if missing := sorted(found["missing_keys"]):
        raise PretrainedError(
            f"The weights in {folder} are incomplete, {missing[0]} is missing: copy them again."
        )
    # On CPUs the first tanh of a process, if threads share it, now and then is off by 1e-4 (seen
    # with PyTorch 2.13 and MKL): GPT-2 has one. A small one, of one thread, comes before it here.
    torch.tanh(torch.zeros(64))
    return model.to(device).eval(), tokenizer


def _check_files(folder: Path) -> None:
    """What is missing, before the seconds that it takes to import `transformers`."""
    if not folder.is_dir():
        raise PretrainedError(
            f"There is no folder {folder}: put a pretrained model there, or correct the path."
        )
    if not (folder / "config.json").is_file():
        raise PretrainedError(
            f"{folder} has no config.json: copy all files of a pretrained model there."
        )
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
        name = names[0]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise PretrainedError(
            f"{folder / 'config.json'} is damaged or names no architectures: copy it again."
        ) from error
    if name not in FAMILIES:
        raise PretrainedError(
            f"{folder} holds a {name}, which is not supported: "
            f"choose a model of one of {', '.join(FAMILIES)}."
        )
    # Large weights are in several files, which an index lists.
    if not any(
        (folder / f"{file}{end}").is_file() for file in WEIGHTS for end in ("", ".index.json")
    ):
        raise PretrainedError(
            f"{folder} has no weights: copy {' or '.join(WEIGHTS)} of the model there."
        )
    # Without its files transformers would make a tokenizer of one token for some classes.
    if not any(all((folder / file).is_file() for file in files) for files in TOKENIZERS):
        choices = " or ".join(" and ".join(files) for files in TOKENIZERS)
        raise PretrainedError(f"{folder} has no tokenizer: copy {choices} of the model there.")


def _in_short(error: Exception) -> str:
    """Kind and first line of an error, whose further lines often are advice for other cases."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"


@torch.no_grad()
def observe(
    model: "PreTrainedModel", tokens: Tensor, see: Callable[[int, Observed], None]
) -> Tensor:
    """One forward pass, in which each layer is shown when it is computed.

    Args:
        model: from `load_model`.
        tokens: (B, T) int64, T >= 2, on the device of the model.
        see: gets the number of the layer from 0 and its `Observed` with S = 1. What it does not
            keep is freed before the next layer.

    Returns:
        (B,) mean cross-entropy of the tokens after the first, in nats.

    Raises:
        PretrainedError: the texts are longer than the model's context, or their tokens are not the
            model's.
    """
    _check_tokens(model, tokens)
    family, heads = FAMILIES[type(model).__name__], model.config.num_attention_heads
    with ExitStack() as hooks:
        for number, layer in enumerate(model.get_submodule(family.layers)):
            for hook in _hooks(family, heads, number, layer, see):
                hooks.enter_context(hook)
        # A config.json may ask for the maps of all layers.
        logits = model(tokens, use_cache=False, output_attentions=False).logits
    # Text by text: the softmax of all logits together would need their memory again.
    losses = [F.cross_entropy(z[:-1], y[1:]) for z, y in zip(logits, tokens, strict=True)]
    return torch.stack(losses)


def _check_tokens(model: "PreTrainedModel", tokens: Tensor) -> None:
    """Both errors would otherwise end a GPU's process without a sentence."""
    T, context = tokens.shape[1], model.config.max_position_embeddings
    if T > context:
        raise PretrainedError(
            f"Texts of {T} tokens do not fit {model.name_or_path}, whose context is {context}: "
            "choose a shorter context."
        )
    if (largest := int(tokens.max())) >= model.config.vocab_size:
        raise PretrainedError(
            f"Token {largest} is not one of the {model.config.vocab_size} of {model.name_or_path}: "
            "put the model's own tokenizer into its folder."
        )


def _hooks(
    family: Family, heads: int, number: int, layer: nn.Module, see: Callable[[int, Observed], None]
) -> list[RemovableHandle]:
    """Handles of what looks at a layer: the stream on its way in, the attention on its way out."""
    entered: list[Tensor] = []

    def enter(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        entered.append(args[0])

    def look(attention: nn.Module, args: tuple, kwargs: dict, result: tuple) -> None:
        inputs = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        rotary = kwargs.get("position_embeddings")
        A, residual = result[1], entered.pop()
        see(number, _observed(family, heads, attention, inputs, rotary, A, residual))

    return [
        layer.register_forward_pre_hook(enter, with_kwargs=True),
        layer.get_submodule(family.attention).register_forward_hook(look, with_kwargs=True),
    ]


def _observed(
    family: Family,
    heads: int,
    attention: nn.Module,
    inputs: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    A: Tensor,
    residual: Tensor,
) -> Observed:
    """A layer as the probes read it.

    Args:
        family: of the model.
        heads: H.
        attention: the attention module.
        inputs: (B, T, d) what it read.
        rotary: cosines and sines, each (1, T, rotated width), of a model with rotary positions.
        A: (B, H, T, T), the module's own weights.
        residual: (B, T, d) before the layer.
    """
    output = attention.get_submodule(family.output)
    # GPT-2's Conv1D keeps its matrix as (in, out), Linear as (out, in).
    W_O = output.weight.mT if isinstance(output, nn.Linear) else output.weight
    W_O = W_O.unflatten(0, (heads, -1))
    width = W_O.shape[1]
    q, k, v = (
        x.unflatten(-1, (-1, width)).transpose(1, 2) for x in family.project(attention, inputs)
    )
    if rotary is not None:
        # GPT-NeoX's, which turns as many dimensions as there are cosines, serves the others too.
        from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

        q, k = apply_rotary_pos_emb(q, k, *rotary)
    # Grouped queries: neighbouring heads share a key and a value.
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    # GPT-2's options divide logits by more than √d_h; `Observed.logits` knows √d_h only.
    q = q * (attention.scaling * width**0.5)
    parts = (A, q, k, v, (A @ v) @ W_O, v @ W_O, inputs, residual)
    return Observed(*(part.unsqueeze(0) for part in parts))


def texts_as_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    texts: list[str],
    T: int,
    kind: Literal["natural", "random", "repeated"],
    generator: torch.Generator,
    bos: bool,
) -> Tensor:
    """T tokens for each text.

    Args:
        tokenizer: of the model.
        texts: B texts, of which only `natural` reads more than their number.
        T: tokens of a text, with BOS if there is one.
        kind: `natural`, the start of each text; `random`, uniform tokens; `repeated`, one random
            token for each text, again and again. Special tokens are not drawn.
        generator: on the CPU, of what is random.
        bos: whether BOS, for GPT-2 and GPT-NeoX <|endoftext|>, is the first token of each text. If
            not, it is not there even where the tokenizer would add it.

    Returns:
        (B, T) int64, on the CPU.

    Raises:
        PretrainedError: a text is too short, or the tokenizer has no BOS.
    """
    B, length = len(texts), T - bos
    if kind == "natural":
        # Long texts are cut here, which the tokenizer need not warn about.
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for number, row in enumerate(ids, 1):
            if len(row) < length:
                raise PretrainedError(
                    f"Text {number} has {len(row)} tokens, {length} are needed: choose longer "
                    "texts or a shorter context."
                )
        tokens = torch.tensor([row[:length] for row in ids], dtype=torch.int64)
    else:
        ordinary = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
        choice = torch.tensor(sorted(ordinary), dtype=torch.int64)
        columns = length if kind == "random" else 1
        drawn = torch.randint(len(choice), (B, columns), generator=generator)
        tokens = choice[drawn.expand(B, length)]
    if not bos:
        return tokens
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise PretrainedError(
            f"The tokenizer in {tokenizer.name_or_path} has neither a BOS nor an EOS token: "
            "observe the model without BOS."
        )
    return torch.cat([torch.full((B, 1), first), tokens], 1)
