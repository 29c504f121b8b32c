"""The probes of language models, run on a pretrained model in a folder of the user."""

import pandas as pd
import torch
from torch import Tensor

from replica.attention.head_probes import Model, probe
from replica.attention.pretrained import load_model, observe, texts_as_tokens
from replica.data import words
from replica.data.prepare import load, verify
from replica.kinds.attention import PretrainedSpec
from replica.models.decoder import Edit, See
from replica.provenance import stream_seed
from replica.training.jobs import Job, Result, table_result


def train_pretrained(spec: PretrainedSpec, job: Job) -> Result:
    """Probe a pretrained model as it is; the states are the columns of the tables.

    Raises:
        PretrainedError: the folder does not hold a model that can be used.
    """
    torch.set_num_threads(job.threads)
    verify(job.cards[spec.dataset])
    text = "\n\n".join(words.texts(load(job.cards[spec.dataset]), "train"))
    loaded = load_model(job.pretrained / spec.model, job.device)
    tables = []
    for seed in job.seeds:
        model = _as_model(spec, loaded, text, job, seed)
        tables.append(probe(model, spec.probes, spec.context))
    facts = {"model": spec.model, "bos": spec.bos, "task": "pretrained"}
    return table_result(pd.concat(tables, ignore_index=True).assign(**facts))


def _as_model(spec: PretrainedSpec, loaded: tuple, text: str, job: Job, seed: int) -> Model:
    model, tokenizer = loaded

    def draw(kind: str, T: int, count: int, bos: bool) -> Tensor:
        # Equal parts of the text, of which the first T tokens are read.
        size = len(text) // count
        parts = [text[i * size : (i + 1) * size] for i in range(count)]
        stream = stream_seed(job.study, job.run, seed, kind, T)
        generator = torch.Generator().manual_seed(stream)
        return texts_as_tokens(tokenizer, parts, T, kind, generator, bos).to(job.device)

    def watch(tokens: Tensor, see: See | None, edit: Edit | None) -> Tensor:
        return observe(model, tokens, see or (lambda layer, seen: None))[None]

    return Model(
        seeds=[seed],
        layers=model.config.num_hidden_layers,
        heads=model.config.num_attention_heads,
        tokens=lambda kind, T, count: draw(kind, T, count, spec.bos),
        plain=(lambda T, count: draw("natural", T, count, False)) if spec.bos else None,
        observe=watch,
        edits=False,
        linear=False,
    )
