# SPDX-License-Identifier: Apache-2.0
"""Intents of transcripts in three lines of Python::

    from espnet_ext.ml_lmcl.classifier import IntentClassifier
    classify = IntentClassifier.from_pretrained("exp/base/atis_ml_lmcl1_base.zip")
    print(classify("show me the flights from boston to denver").labels)

``{'intent': 'atis_flight'}``. No network is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import DataError, EspnetExtError, UsageError, nearest
from espnet_ext.hardware import check_device
from espnet_ext.ml_lmcl.options import INFERENCE_MODELS
from espnet_ext.text.normalize import normalize


@dataclass(frozen=True)
class Prediction:
    """What the model says of one utterance.

    Attributes:
        labels: Most probable label of each head, in the order of the heads.
        probability: Joint probability of these labels; given the text, heads are independent.
        posteriors: The most probable labels of each head with their probabilities, best first.
    """

    labels: dict[str, str]
    probability: float
    posteriors: dict[str, list[tuple[str, float]]]

    def __str__(self) -> str:
        return " ".join(self.labels.values())


class IntentClassifier:
    """A trained model that classifies transcripts.

    Args:
        net: Network with ``posteriors``, ``represent`` and ``models``.
        tokenizer: Text to ids ``(T,)`` with the special tokens, truncated.
        heads: Labels of each head.
        device: Where ``net`` is.
        inference_model: ``asr``, ``clean`` or ``average`` of both (probabilities).
        batch_size: Texts classified at once.
        normalize_mode: How the transcripts of the training were normalised (:mod:`.normalize`).
        top: Labels listed in :attr:`Prediction.posteriors`.

    Raises:
        UsageError: There is no such inference model.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: Any,
        heads: dict[str, list[str]],
        device: str = "cpu",
        inference_model: str = "asr",
        batch_size: int = 64,
        normalize_mode: str = "none",
        top: int = 5,
    ):
        if batch_size < 1 or top < 1:
            raise UsageError("batch_size and top must be at least 1", "IntentClassifier")
        self.net, self.tokenizer, self.heads = net.eval(), tokenizer, dict(heads)
        self.device, self.batch_size, self.top = device, batch_size, top
        self.models, self.normalize_mode = tuple(net.models), normalize_mode
        self.inference_model = check_inference_model(inference_model, self.models)

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str,
        device: str = "cpu",
        inference_model: str = "asr",
        **options: Any,
    ) -> "IntentClassifier":
        """Load a trained model; the network is used for a name on the hub only.

        Args:
            path: Archive of stage 10 (zip), experiment folder ``exp/<name>``, or the folder or hub
                name of a published model.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            inference_model: ``asr``, ``clean`` or ``average``.
            options: ``batch_size``, ``top``.

        Raises:
            DataError: There is no such file, it is damaged, or it is no intent model.
            SetupError: The device is not there.
            UsageError: There is no such inference model or device.
        """
        check_inference_model(inference_model)
        check_device(device)
        from espnet_ext.ml_lmcl.load import load_classifier
        from espnet_ext.ml_lmcl.model_files import located, normalization

        with located(path) as (config, model):
            try:
                net, tokenizer, heads = load_classifier(config, model, device=device)
            except EspnetExtError:
                raise
            except Exception as e:  # of torch, transformers, tokenizers: each has its own
                what = f"the model cannot be loaded ({type(e).__name__}: {e})"
                raise DataError(what, path, "pack it again, or copy it again") from e
            options = {"normalize_mode": normalization(config), **options}
        return cls(net, tokenizer, heads, device, inference_model, **options)

    def __call__(self, text: str | Sequence[str]) -> "Prediction | list[Prediction]":
        """Classify one text, or a list of them in batches of similar length.

        An empty text is classified, too: from the special tokens alone.

        Returns:
            One prediction for a text; for a list a list in its order.

        Raises:
            UsageError: Something else than text.
        """
        one = isinstance(text, str)
        posteriors = self.posteriors([text] if one else text)
        out = [self._prediction(rows) for rows in _rows(posteriors)]
        return out[0] if one else out

    def posteriors(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the probabilities of each head, ``(N, C)`` float32, of N texts."""
        out = {h: np.zeros((len(texts), len(c)), np.float32) for h, c in self.heads.items()}
        for where, found in self._batches(texts, self.net.posteriors, self.inference_model):
            for head in out:
                out[head][where] = found[head].float().cpu().numpy()
        return out

    def represent(self, texts: Sequence[str], which: str = "") -> np.ndarray:
        """Return the last layer's state of the first token, ``(N, D)`` float32, of N texts.

        Args:
            texts: N texts.
            which: Inference model; default: the one of this object.

        Raises:
            UsageError: There is no such inference model, or something else than text.
        """
        which = check_inference_model(which or self.inference_model, self.models)
        rows: list[Any] = [None] * len(texts)
        for where, found in self._batches(texts, self.net.represent, which):
            for i, row in zip(where, found.float().cpu().numpy(), strict=True):
                rows[i] = row
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    def nbest(self, hypotheses: Sequence[Any]) -> Prediction:
        """Classify one utterance from several hypotheses of its text.

        The posteriors of the hypotheses are averaged with their weights.

        Args:
            hypotheses: Texts (equal weights), or pairs of text and score: the weights are the
                softmax of the scores, which may be log probabilities of a beam search.

        Raises:
            UsageError: No hypothesis, some with a score and some without, or a score that is
                not a number.
        """
        return self.nbest_many([hypotheses])[0]

    def nbest_many(self, utterances: Sequence[Sequence[Any]]) -> list[Prediction]:
        """Classify several utterances, each from its hypotheses; see :meth:`nbest`."""
        weighted = [weights_of(hypotheses) for hypotheses in utterances]
        posteriors = self.posteriors([t for texts, _ in weighted for t in texts])
        out, start = [], 0
        for texts, weights in weighted:
            part = {h: p[start : start + len(texts)] for h, p in posteriors.items()}
            out.append(self._prediction(part, weights))
            start += len(texts)
        return out

    def _batches(self, texts: Sequence[str], function: Any, which: str) -> Any:
        """Yield positions and ``function`` of them, in batches of similar length."""
        import torch

        if isinstance(texts, str) or not all(isinstance(t, str) for t in texts):
            raise UsageError("a text or a list of texts is classified", "IntentClassifier")
        ids = [torch.as_tensor(self.tokenizer(normalize(t, self.normalize_mode))) for t in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), self.batch_size):
            where = order[start : start + self.batch_size]
            part = [ids[i] for i in where]
            padded = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=-1)
            lengths = torch.tensor([len(x) for x in part])
            with torch.inference_mode():
                found = function(padded.to(self.device), lengths.to(self.device), which)
            yield where, found

    def _prediction(self, rows: dict[str, np.ndarray], weights: Any = 1.0) -> Prediction:
        """Make a prediction of posteriors ``(K, C)`` of K hypotheses with weights ``(K,)``."""
        labels, posteriors, joint = {}, {}, np.asarray(weights, np.float64).reshape(-1)
        for head, p in rows.items():
            p = p.astype(np.float64)
            mixed = np.asarray(weights, np.float64).reshape(-1) @ p
            order = np.argsort(-mixed, kind="stable")[: self.top]
            names = self.heads[head]
            labels[head] = names[order[0]]
            posteriors[head] = [(names[i], float(mixed[i])) for i in order]
            joint = joint * p[:, order[0]]
        return Prediction(labels, float(joint.sum()), posteriors)


def _rows(posteriors: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Split ``{head: (N, C)}`` into N of ``{head: (1, C)}``."""
    count = len(next(iter(posteriors.values())))
    return [{h: p[i : i + 1] for h, p in posteriors.items()} for i in range(count)]


def weights_of(hypotheses: Sequence[Any]) -> tuple[list[str], np.ndarray]:
    """Return the texts and the weights ``(K,)`` (sum 1) of the hypotheses of one utterance.

    Raises:
        UsageError: See :meth:`IntentClassifier.nbest`.
    """
    if isinstance(hypotheses, str) or not len(hypotheses):
        raise UsageError("an utterance needs a list of at least one hypothesis", "nbest")
    pairs = [(h, None) if isinstance(h, str) else tuple(h) for h in hypotheses]
    if any(len(p) != 2 for p in pairs):
        raise UsageError("a hypothesis is a text, or a pair of text and score", "nbest")
    texts, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    if all(s is None for s in scores):
        return texts, np.full(len(texts), 1 / len(texts))
    if any(s is None for s in scores):
        raise UsageError("give every hypothesis a score, or none of them", "nbest")
    x = np.array([float(s) for s in scores])
    if np.isnan(x).any() or not np.isfinite(x.max()):
        raise UsageError(f"scores must be numbers, not {scores}", "nbest")
    w = np.exp(x - x.max())
    return texts, w / w.sum()


def check_inference_model(name: str, has: Sequence[str] = ("clean", "asr")) -> str:
    """Return ``name`` if a network with the models ``has`` can classify by it.

    Raises:
        UsageError: It cannot.
    """
    if name not in INFERENCE_MODELS:
        how = nearest(str(name), INFERENCE_MODELS)
        raise UsageError(f"there is no inference model '{name}'", "inference_model", how)
    if not (set(has) >= {"asr", "clean"} if name == "average" else name in has):
        what = f"the model was trained without what '{name}' needs"
        raise UsageError(what, "inference_model", f"it has: {', '.join(has)}")
    return name
