"""Training data of decoders: windows of a text, and small tasks whose best attention is known.

Batches of a step come from a stream named by the step, for each member its own, so that there is no
generator state to save. Rows of the small tasks are plain ones, or triggers that ask for a mean.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replica.data import words
from replica.data.prepare import DataError, Dataset
from replica.kinds.attention import DecoderSpec, TokenwiseTask, TriggerTask
from replica.provenance import stream_seed

# The last part of a text is held out.
HELD_OUT = 0.1


@dataclass(frozen=True)
class Batch:
    """Sequences of each member.

    Attributes:
        inputs: (S, B, T) numbers or (S, B, T, D) vectors.
        targets: (S, B, T) numbers or (S, B, T, C) vectors.
        triggers: (S, B, T) bool, rows that ask for other tokens; None for windows of a text.
    """

    inputs: Tensor
    targets: Tensor
    triggers: Tensor | None = None

    def split(self, count: int) -> "list[Batch]":
        """Batches of at most this many sequences."""
        parts = [self.inputs.split(count, 1), self.targets.split(count, 1)]
        no_triggers = [None] * len(parts[0])
        parts.append(no_triggers if self.triggers is None else self.triggers.split(count, 1))
        return [Batch(*part) for part in zip(*parts, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        triggers = None if self.triggers is None else self.triggers.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), triggers)


@dataclass(frozen=True)
class Task:
    """A task of a run.

    Attributes:
        inputs, outputs: sizes of the vocabulary, or dimensions of a token and of a target.
        batch: from member, name of the draw and number of sequences to one member's batch (B, ...).
    """

    inputs: int
    outputs: int
    batch: Callable[[int, str, int], Batch]


@dataclass(frozen=True)
class Corpus:
    """A text as numbers of its characters in the order of their code points; BOS comes last.

    Attributes:
        characters: the vocabulary without BOS.
        train, held_out: (n,) int64, the first nine tenths and the rest.
    """

    characters: str
    train: Tensor
    held_out: Tensor

    @property
    def bos(self) -> int:
        """The number of the token that stands before each window."""
        return len(self.characters)


def corpus(dataset: Dataset) -> Corpus:
    """All texts of the training file, joined by empty lines.

    Raises:
        DataError: the data set has no texts.
    """
    text = "\n\n".join(words.texts(dataset, "train"))
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    vocabulary, numbers = np.unique(points, return_inverse=True)
    numbers = torch.from_numpy(numbers.astype(np.int64))
    first = round(len(numbers) * (1 - HELD_OUT))
    return Corpus("".join(map(chr, vocabulary)), numbers[:first], numbers[first:])


def task_of(spec: DecoderSpec, study: str, run: str, dataset: Dataset | None) -> Task:
    """The task of a run; `study` and `run` name its streams.

    Raises:
        DataError: a text is too short for the context.
    """

    def generator(seed: int, draw: str) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(study, run, seed, draw))

    if isinstance(spec.task, TriggerTask | TokenwiseTask):
        content = spec.task.content

        @functools.cache
        def map_of(seed: int) -> Tensor | None:
            if isinstance(spec.task, TriggerTask):
                return None
            drawn = torch.randn(content, content, generator=generator(seed, "map"))
            return drawn / content**0.5

        def draw(seed: int, name: str, count: int) -> Batch:
            return vectors(spec.task, spec.context, count, generator(seed, name), map_of(seed))

        return Task(content + 3, content, draw)

    found = corpus(dataset)
    size = len(found.characters) + 1
    if len(found.held_out) <= spec.context:
        raise DataError(
            f"{dataset.card['dataset']}: {len(found.held_out)} characters are held out, fewer "
            f"than a context of {spec.context}."
        )
    if spec.task.kind == "backcopy":
        table = bigrams(found)

        def draw(seed: int, name: str, count: int) -> Batch:
            drawing = generator(seed, name)
            return backcopy(found, table, spec.task.triggers, spec.context, count, drawing)

        return Task(size, size, draw)

    def draw(seed: int, name: str, count: int) -> Batch:
        if name == "held out":
            return windows(found.held_out, evenly(found.held_out, spec.context, count), spec, found)
        last = len(found.train) - spec.context
        starts = torch.randint(last, (count,), generator=generator(seed, name))
        return windows(found.train, starts, spec, found)

    return Task(size, size, draw)


def batch_of(task: Task, seeds: tuple[int, ...], name: str, count: int) -> Batch:
    """One batch of all members."""
    parts = [task.batch(seed, name, count) for seed in seeds]
    triggers = None if parts[0].triggers is None else torch.stack([p.triggers for p in parts])
    return Batch(
        torch.stack([p.inputs for p in parts]), torch.stack([p.targets for p in parts]), triggers
    )


def evenly(text: Tensor, context: int, count: int) -> Tensor:
    """The first characters of windows that are spread over a text, (count,)."""
    return torch.linspace(0, len(text) - context - 1, count, dtype=torch.float64).long()


def windows(text: Tensor, starts: Tensor, spec: DecoderSpec, found: Corpus) -> Batch:
    """Windows (B, T) of a text, and the next characters; BOS is the first of the T where wanted."""
    T = spec.context
    wide = text[starts[:, None] + torch.arange(T + 1)]
    if not spec.task.bos:
        return Batch(wide[:, :-1], wide[:, 1:])
    bos = torch.full((len(starts), 1), found.bos)
    return Batch(torch.cat([bos, wide[:, : T - 1]], 1), wide[:, :T])


def vectors(
    task: TriggerTask | TokenwiseTask,
    T: int,
    count: int,
    generator: torch.Generator,
    B: Tensor | None,
) -> Batch:
    """Sequences of TC, TW and MIX.

    A token is (content, BOS flag, trigger flag, 1 for all but BOS). The target of a trigger is the
    mean of the contents of positions 2 to its own, not included; of other rows B x, or 0 without B.
    The target of BOS is 0.

    Args:
        task: the task.
        T: positions.
        count: sequences.
        generator: of contents and triggers.
        B: (content, content), or None.
    """
    inputs = torch.zeros(count, T, task.content + 3)
    content = torch.randn(count, T, task.content, generator=generator)
    if isinstance(task, TokenwiseTask):
        content *= task.norm / content.norm(dim=-1, keepdim=True)
    triggers = torch.rand(count, T, generator=generator) < task.probability
    # In counting from 1, a trigger has at least one content before it.
    triggers[:, :2] = False
    content[:, 0] = 0
    inputs[..., : task.content] = content
    inputs[:, 0, -3] = 1
    inputs[..., -2] = triggers
    inputs[:, 1:, -1] = 1
    targets = torch.zeros_like(content) if B is None else content @ B.T
    if triggers.any():
        sequences, rows = triggers.nonzero(as_tuple=True)
        before = content.cumsum(1).sub_(content)
        targets[sequences, rows] = before[sequences, rows] / (rows - 1)[:, None]
    return Batch(inputs, targets, triggers)


def bigrams(found: Corpus) -> Tensor:
    """P(next character | character), (V, V) float64; uniform after one that is followed by none."""
    V = len(found.characters)
    pairs = found.train[:-1] * V + found.train[1:]
    counts = torch.bincount(pairs, minlength=V * V).reshape(V, V).double()
    counts[counts.sum(1) == 0] = 1
    return counts / counts.sum(1, keepdim=True)


def backcopy(
    found: Corpus, table: Tensor, triggers: int, T: int, count: int, generator: torch.Generator
) -> Batch:
    """Sequences of BB: BOS, a character, then x_t = x_{t-2} after triggers, else a bigram.

    Args:
        found: the text.
        table: its bigrams.
        triggers: the most frequent characters, so many of them.
        T: positions.
        count: sequences.
        generator: of the draws.

    Returns:
        Rows `triggers` are those whose next character is copied.
    """
    frequency = torch.bincount(found.train, minlength=len(found.characters))
    chosen = frequency.argsort(descending=True, stable=True)[:triggers]
    cumulative = table.cumsum(1)
    x = torch.full((count, T + 1), found.bos)
    at = torch.randint(len(found.train), (count,), generator=generator)
    x[:, 1] = found.train[at]
    uniform = torch.rand(T + 1, count, generator=generator, dtype=torch.float64)
    for t in range(2, T + 1):
        drawn = torch.searchsorted(cumulative[x[:, t - 1]], uniform[t, :, None]).squeeze(1)
        drawn = drawn.clamp(max=len(table) - 1)
        copies = torch.isin(x[:, t - 1], chosen) & (t > 2)
        x[:, t] = torch.where(copies, x[:, t - 2], drawn)
    asked = torch.isin(x[:, :-1], chosen)
    asked[:, :2] = False
    return Batch(x[:, :-1], x[:, 1:], asked)
