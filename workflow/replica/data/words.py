"""Texts as numbers: words in lower case, the most frequent ones of the training text.

A word is a run of letters, digits, underscores and apostrophes, a line break of HTML, or one other
character that is no space. 0 stands for places after the end of a text, 1 for all words that are
not in the vocabulary, and from 2 on come the most frequent words, those of equal frequency in
alphabetical order.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from replica.data.prepare import DataError, Dataset

_WORD = re.compile(r"<br />|[\w']+|[^\w\s]")
AFTER_THE_END, UNKNOWN, FIRST = 0, 1, 2


def words(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(text.lower())


def texts(dataset: Dataset, split: str) -> Iterator[str]:
    """The texts of a split, one after another.

    Raises:
        DataError: the data set has no texts.
    """
    joined, offsets = dataset.array(f"{split}.text"), dataset.array(f"{split}.offsets")
    for first, end in itertools.pairwise(offsets):
        yield joined[first:end].tobytes().decode()


def vocabulary(listed: Sequence[Sequence[str]], size: int) -> dict[str, int]:
    """Numbers of the size - 2 most frequent words of some texts."""
    counts = Counter(word for text in listed for word in text)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ordered[: size - FIRST], start=FIRST)}


def encode(
    listed: Sequence[Sequence[str]], numbers: Mapping[str, int], context: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first words of each text as numbers.

    Args:
        listed: the words of each text.
        numbers: see `vocabulary`.
        context: words that are read.

    Returns:
        Numbers (N, context) int64, 0 after the end; and the place of each last word, (N,).

    Raises:
        DataError: a text has no words.
    """
    tokens = np.full((len(listed), context), AFTER_THE_END, dtype=np.int64)
    for row, text in zip(tokens, listed, strict=True):
        read = [numbers.get(word, UNKNOWN) for word in text[:context]]
        if not read:
            raise DataError("A text has no words.")
        row[: len(read)] = read
    return tokens, (tokens != AFTER_THE_END).sum(1) - 1
