# SPDX-License-Identifier: Apache-2.0
"""From the embedding of speech to the nearest sentences: the candidates, their vectors, the rank.

Letters: B utterances, N sentences, E values of an embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.text.similarity import Parallel

if TYPE_CHECKING:
    from espnet_ext.dual_task.load import Files

NONE = "-"  # meaning of what an utterance without an embedding retrieves
_HOW = "give the encoder of the training: --sentence-encoder FOLDER or a name on the hub"


def cosines(embeddings: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return ``(B, N)`` float32 from ``(B, E)`` and ``(N, E)``; 0 where a vector has no length.

    Raises:
        DataError: The widths differ.
    """
    if embeddings.shape[1] != vectors.shape[1]:
        what = f"sentence vectors have {vectors.shape[1]} values, speech {embeddings.shape[1]}"
        raise DataError(what, "sentence encoder", _HOW)
    return _unit(embeddings) @ _unit(vectors).T


def _unit(x: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(norms > 0, norms, 1)).astype(np.float32)


def rank(
    embeddings: np.ndarray, vectors: np.ndarray, top: int = 1
) -> list[list[tuple[int, float]]]:
    """Return for each utterance rows of ``vectors`` with cosines, best first, the first of equals.

    Raises:
        UsageError: ``top`` is below 1.
        DataError: There is nothing to rank, or the widths differ.
    """
    if top < 1:
        raise UsageError(f"top is {top}", "retrieve", "a whole number from 1")
    if not len(vectors):
        raise DataError("there are no texts to rank", "retrieve", "give at least one")
    found = cosines(embeddings, vectors)
    order = np.argsort(-found, axis=1, kind="stable")[:, :top]
    return [[(int(j), float(row[j])) for j in best] for row, best in zip(found, order, strict=True)]


@dataclass(frozen=True)
class Retrieved:
    """What the utterances of a set retrieve, by utterance.

    Attributes:
        same: Meaning of the nearest sentence of the utterance's language.
        other: Of the other languages; empty if there is no other one.
        cosine: To the utterance's own sentence, 0 without an embedding.
    """

    same: dict[str, str]
    other: dict[str, str]
    cosine: dict[str, float]


class Candidates:
    """Sentences that are retrieved, with their vectors; equal texts of a language are one.

    Args:
        rows: N sentences.
        vector: Returns the vector ``(E,)`` of a text.

    Raises:
        DataError: There is none, or one has no vector.
    """

    def __init__(self, rows: Sequence[Parallel], vector: Callable[[str], np.ndarray]):
        self.meanings: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            known = self.meanings.setdefault((row.language, row.text), [])
            known += [row.meaning] if row.meaning not in known else []
        if not rows:
            raise DataError("there are no sentences to retrieve", "candidates", "see data/*/plain")
        self.texts = list(self.meanings)
        self.languages = np.array([language for language, _ in self.texts])
        self.vectors = np.stack([vector(text) for _, text in self.texts])

    def retrieve(
        self,
        embeddings: Mapping[str, np.ndarray],
        languages: Mapping[str, str],
        meanings: Mapping[str, str],
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the meaning of the nearest sentence by utterance, of its language and of others.

        Of several meanings of the same text the utterance's own counts.

        Args:
            embeddings: ``(E,)`` by utterance.
            languages: Language of each utterance; its sentences are "the same language", and all
                are where it is not among the candidates'.
            meanings: What each utterance means.
        """
        utts = list(embeddings)
        if not utts:
            return {}, {}
        found = cosines(np.stack([embeddings[u] for u in utts]), self.vectors)
        same, other = {}, {}
        for utt, row in zip(utts, found, strict=True):
            own = self.languages == languages.get(utt, "")
            own = own if own.any() else np.ones_like(own)
            same[utt] = self._meaning(row, own, meanings[utt])
            if not own.all():
                other[utt] = self._meaning(row, ~own, meanings[utt])
        return same, other

    def _meaning(self, cosine: np.ndarray, allowed: np.ndarray, own: str) -> str:
        best = int(np.where(allowed, cosine, -np.inf).argmax())
        meanings = self.meanings[self.texts[best]]
        return own if own in meanings else meanings[0]


def retrieve_set(
    candidates: Candidates,
    embeddings: Mapping[str, np.ndarray],
    plain: Mapping[str, str],
    languages: Mapping[str, str],
    meanings: Mapping[str, str],
    vector: Callable[[str], np.ndarray],
) -> Retrieved:
    """Measure what is kept of the meaning of each utterance of a set.

    Args:
        candidates: Sentences to retrieve.
        embeddings: ``(E,)`` by utterance; audio that is too short has none.
        plain: The sentence of each utterance of the set.
        languages: Language of each utterance.
        meanings: What each utterance means.
        vector: Returns the vector ``(E,)`` of a sentence.
    """
    same, other = candidates.retrieve(embeddings, languages, meanings)
    lost = [u for u in plain if u not in embeddings]
    own = {u: float(cosines(x[None], vector(plain[u])[None])[0, 0]) for u, x in embeddings.items()}
    return Retrieved(
        {u: same.get(u, NONE) for u in plain},
        {u: other.get(u, NONE) for u in plain} if other else {},
        {**own, **dict.fromkeys(lost, 0.0)},
    )


def sentence_encoder_of(files: "Files", source: str = "", device: str = "cpu") -> Any:
    """Return the sentence encoder of a model, or the given one if it is the same.

    Args:
        files: Of the model.
        source: Folder or name on the hub; empty: what the model's files name.
        device: Where to put it.

    Raises:
        SetupError: It is not there.
        DataError: It is another one than that of the training, or unusable.
    """
    from espnet_ext.text.sentence import SentenceEncoder
    from espnet_ext.text.sentence_store import read_about

    about = read_about(files.about.parent) if files.about else None
    if not source:
        if about is None:
            raise SetupError("the model does not say what its sentence encoder was", files.config,
                             _HOW)  # fmt: skip
        local = files.base / about.source
        source = str(local) if local.is_dir() else about.source
    try:
        encoder = SentenceEncoder(source, about.pooling if about else "auto", device)
        width = encoder.width
    except (DataError, SetupError) as e:
        raise type(e)(e.what, e.where, _HOW) from None
    if about is not None and encoder.fingerprint != about.fingerprint:
        what = f"this is another sentence encoder than that of the training ({about.source})"
        raise DataError(what, source, _HOW)
    if about is not None and width != about.width:
        raise DataError(f"embeddings have {width} values, not {about.width}", source, _HOW)
    return encoder
