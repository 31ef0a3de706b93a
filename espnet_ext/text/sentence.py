# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings of a frozen text encoder: any encoder that transformers reads.

    y = z / ||z||,  z = pooled, mean or cls of the encoder's output

LaBSE: ``setu4993/LaBSE``, whose ``pooler_output`` is the embedding (``pooling: pooled``, also what
``auto`` takes). ``sentence-transformers/LaBSE`` is the same network in another layout: its folder
names a module ``Dense`` (tanh) after the first sub-word, which ``auto`` reads from there; its plain
``cls`` or ``mean`` is not LaBSE's embedding. Neither was available where this was written: the
forms are tested with small random encoders.

Source: L_samu of arXiv 2205.08180 and 2406.12141 (text side).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import DataError, SetupError, UsageError, nearest
from espnet_ext.files import sha256_file, sha256_json
from espnet_ext.text import sentence_layout
from espnet_ext.text.folder import check_folder
from espnet_ext.text.sentence_layout import POOLINGS
from espnet_ext.text.source import SENTENCE

BATCH_TOKENS = 4096  # sub-words with padding


class SentenceEncoder:
    """Texts to unit vectors; the network is loaded at the first text.

    Args:
        source: Folder, or name of a model on the hub.
        pooling: ``pooled`` (the model's own pooler), ``mean`` (over the sub-words), ``cls`` (the
            first one), or ``auto``: what modules.json of the folder says, else ``pooled``.
        device: For the network.

    Raises:
        UsageError: There is no such pooling.
        DataError: The folder lacks a file or is of another form.
        SetupError: The model is not available and cannot be downloaded.
    """

    def __init__(self, source: Path | str, pooling: str = "auto", device: str = "cpu"):
        if pooling not in POOLINGS:
            what = f"there is no pooling '{pooling}'"
            raise UsageError(what, "pooling", nearest(pooling, POOLINGS))
        self.source, self.device = str(source), device
        self.folder = fetch(str(source))
        check_folder(self.folder, SENTENCE.variable)
        self.layout = sentence_layout.read(self.folder, pooling)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when configuration, weights, tokenizer or pooling do; not with the place."""
        found = sentence_layout.files(self.folder)
        files = {str(p.relative_to(self.folder)): sha256_file(p) for p in found}
        return sha256_json([files, self.layout.pooling, self.layout.dense])

    @property
    def width(self) -> int:
        """Values of an embedding, E."""
        dense = self._network[2]
        return int(dense[0].shape[0] if dense else self._network[0].config.hidden_size)

    @cached_property
    def _network(self) -> tuple[Any, Any, Any]:
        model = load_model(self.folder, needs_pooler=self.layout.pooling == "pooled")
        tokenizer = load_tokenizer(self.folder)
        if len(tokenizer) > (rows := model.get_input_embeddings().num_embeddings):
            what = f"the tokenizer knows {len(tokenizer)} sub-words, the model {rows}"
            raise DataError(what, self.folder, "give model and tokenizer of one encoder")
        dense = sentence_layout.read_dense(self.folder, self.layout, self.device)
        return model.to(self.device), tokenizer, dense

    @property
    def model(self) -> Any:
        """The network: eval mode, no gradients."""
        return self._network[0]

    def __call__(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Return ``(N, E)`` float32 of length 1, in the order of the texts.

        Raises:
            DataError: An embedding is not finite or has no direction, with its text.
        """
        ids = self._ids(texts)
        out = np.zeros((len(texts), self.width), dtype=np.float32)
        done = 0
        for rows in _batches([len(x) for x in ids]):
            out[rows] = self._embed([ids[i] for i in rows])
            done += len(rows)
            if progress:
                progress(done, len(texts))
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        for i in np.flatnonzero(~(np.isfinite(norms) & (norms > 0))[:, 0]):
            how = "the encoder's weights are damaged, or not of a sentence encoder"
            raise DataError(f"no usable embedding of the text '{texts[i]}'", self.folder, how)
        return out / norms

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not len(texts):
            return []
        limit = sentence_layout.max_tokens(self.model.config)
        tokenizer = self._network[1]
        ids = tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        for text, found in zip(texts, ids, strict=True):
            if not found:
                what = f"the tokenizer makes nothing of the text '{text}'"
                raise DataError(what, self.folder, "use a tokenizer with first and last sub-words")
        return ids

    def _embed(self, ids: list[list[int]]) -> np.ndarray:
        """Return ``(B, E)`` of sub-words, before they get length 1."""
        import torch

        width = max(map(len, ids))
        pad = self._network[1].pad_token_id or 0
        padded = torch.tensor([x + [pad] * (width - len(x)) for x in ids], device=self.device)
        lengths = torch.tensor([len(x) for x in ids], device=self.device)
        mask = torch.arange(width, device=self.device)[None, :] < lengths[:, None]
        with torch.inference_mode():
            out = self.model(input_ids=padded, attention_mask=mask.long())
            pooled = sentence_layout.pool(out, mask, self.layout.pooling)
            if dense := self._network[2]:
                pooled = torch.nn.functional.linear(pooled, *dense)
                pooled = torch.tanh(pooled) if self.layout.tanh else pooled
            return pooled.float().cpu().numpy()


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Yield rows of about the same length, the longest first: a lack of memory shows at once."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def fetch(source: str) -> Path:
    """Return the folder of a source: itself, or the hub's copy on this disk.

    Raises:
        SetupError: There is no such model, or no network.
    """
    if Path(source).is_dir() or source.startswith(("/", ".", "~")) or source.count("/") > 1:
        return Path(source)
    os.environ.setdefault("HF_HUB_OFFLINE", "0")  # is read once, when the package is imported
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=list(sentence_layout.FILES)))
    except Exception as e:  # of the hub, the network, a file: each has classes of its own
        variable = SENTENCE.variable
        raise SetupError(
            f"the sentence encoder '{source}' is not available and cannot be downloaded "
            f"({type(e).__name__})",
            variable,
            f"give a local folder: {variable}=/path/to/LaBSE (config.json, a tokenizer, "
            f"model.safetensors), or {variable}=none for the recipe's own",
        ) from None


def load_model(folder: Path, needs_pooler: bool) -> Any:
    """Return the frozen network.

    Raises:
        DataError: It is of an unknown type, or weights are missing from the folder.
    """
    from espnet_ext.text.encoder import quiet

    quiet()
    import torch
    from transformers import AutoConfig, AutoModel

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        model, info = AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
    except Exception as e:  # a damaged file raises classes of its own
        first = next(iter(str(e).strip().splitlines()), type(e).__name__)
        how = "copy the folder again, or give an encoder of the BERT or RoBERTa family"
        raise DataError(f"transformers cannot load it: {first}", folder, how) from None
    if config.is_encoder_decoder or not _has_words(model):
        how = "use an encoder of the BERT or RoBERTa family, e.g. setu4993/LaBSE"
        raise DataError(f"a model of type '{config.model_type}' is not a text encoder", folder, how)
    # transformers fills what it does not find at random, and only warns.
    lost = sorted(k for k in info["missing_keys"] if "pooler" not in k)
    if lost:
        what = f"the weights lack {len(lost)} tensors, e.g. {lost[0]}"
        raise DataError(what, folder, "copy the whole folder again")
    untrained = len(info["missing_keys"]) > len(lost) or getattr(model, "pooler", None) is None
    if needs_pooler and untrained:
        how = "pooling: mean, or an encoder with a trained pooler such as setu4993/LaBSE"
        raise DataError("pooling is pooled, and the encoder has no trained pooler", folder, how)
    return model.eval().requires_grad_(False)


def _has_words(model: Any) -> bool:
    """Whether a model starts from sub-words, not from audio or images."""
    import torch

    try:
        return isinstance(model.get_input_embeddings(), torch.nn.Embedding)
    except NotImplementedError:
        return False


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer.

    Raises:
        DataError: It cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except Exception as e:  # the package raises bare exceptions
        first = next(iter(str(e).strip().splitlines()), type(e).__name__)
        what = f"transformers cannot load the tokenizer: {first}"
        raise DataError(what, folder, "copy the folder again") from None
