# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings on disk: one row for each distinct text, computed once.

A folder has ``vectors.npy`` ``(N, E)`` float32, ``texts.jsonl`` (the text of each row) and
``about.json`` (which encoder made them; further texts do not change it, so that what depends on the
encoder can depend on this file). Reading needs neither torch nor transformers.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_dir, write_json
from espnet_ext.text import similarity
from espnet_ext.text.tokenizer import EMPTY

VECTORS, TEXTS, ABOUT = "vectors.npy", "texts.jsonl", "about.json"
SAMPLE = 2000  # rows whose spread is measured
_DIGEST_BYTES = 16
AGAIN = "./run.sh --stage format"


@dataclass(frozen=True)
class About:
    """``about.json``.

    Attributes:
        fingerprint: Of encoder and pooling.
        pooling: That makes the same encoder of the same folder.
        width: Values of an embedding, E.
        source: Folder or name of the encoder, without the path of a machine.
    """

    fingerprint: str
    pooling: str
    width: int
    source: str


def text_key(text: str) -> str:
    """Return the form in which a text is embedded and looked up: NFC, single plain spaces."""
    return "" if text == EMPTY else tidy(text)


class SentenceStore:
    """Vectors by text, mapped into memory; safe to copy into data-loading processes.

    Args:
        folder: Of the store.
        width: Values that an embedding must have.
        fingerprint: Of the encoder that must have made it.

    Raises:
        DataError: The store is missing, damaged, or made otherwise than needed.
    """

    def __init__(self, folder: Path | str, width: int | None = None, fingerprint: str = ""):
        self.folder = Path(folder)
        self.about = read_about(self.folder)
        if width is not None and width != self.about.width:
            what = (
                f"the sentence embeddings have {self.about.width} values, the model needs {width}"
            )
            how = f"embedding_dim: {self.about.width}, or another encoder: {AGAIN}"
            raise DataError(what, self.folder / VECTORS, how)
        if fingerprint and fingerprint != self.about.fingerprint:
            what = "the sentence embeddings are of another encoder than this model's"
            raise DataError(what, self.folder / ABOUT, f"set SENTENCE_ENCODER as then, {AGAIN}")
        self._vectors: np.ndarray | None = None
        self._count = len(self._open())
        digests = b"".join(_digest(t) for t in self.texts())
        if len(digests) != _DIGEST_BYTES * self._count:
            raise DataError("texts and vectors do not fit together", self.folder / TEXTS, AGAIN)
        found = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
        self._order = np.lexsort((found[:, 1], found[:, 0]))
        self._keys = np.ascontiguousarray(found[self._order].astype(np.uint64))

    def _open(self) -> np.ndarray:
        if self._vectors is None:
            path = self.folder / VECTORS
            try:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as e:
                raise DataError(f"not readable as an array: {e}", path, AGAIN) from None
            if found.ndim != 2 or found.shape[1] != self.width or found.dtype != np.float32:
                what = f"{found.dtype} {found.shape} instead of float32 (N, {self.width})"
                raise DataError(what, path, AGAIN)
            self._vectors = found
        return self._vectors

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_vectors": None}  # each process maps the file itself

    @property
    def width(self) -> int:
        """Values of an embedding, E."""
        return self.about.width

    @property
    def vectors(self) -> np.ndarray:
        """``(N, E)``, read-only."""
        return self._open()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: str) -> bool:
        return self._row(text) is not None

    def __getitem__(self, text: str) -> np.ndarray:
        """Return a copy ``(E,)`` float32 of the embedding of a text.

        Raises:
            DataError: The text has none.
        """
        row = self._row(text)
        if row is None:
            what = f"there is no sentence embedding of the text '{text_key(text)}'"
            raise DataError(what, self.folder, f"{AGAIN} makes those of all sets of the recipe")
        return np.array(self._open()[row])

    def _row(self, text: str) -> int | None:
        high, low = np.frombuffer(_digest(text_key(text)), dtype=">u8").astype(np.uint64)
        first = int(np.searchsorted(self._keys[:, 0], high))
        while first < len(self._keys) and self._keys[first, 0] == high:
            if self._keys[first, 1] == low:
                return int(self._order[first])
            first += 1
        return None

    def texts(self) -> Iterator[str]:
        """Yield the texts in the order of the rows.

        Raises:
            DataError: The file is damaged.
        """
        path = self.folder / TEXTS
        try:
            with open(path, encoding="utf-8", newline="\n") as f:
                for line in f:
                    yield str(json.loads(line))
        except (OSError, ValueError) as e:
            raise DataError(f"not readable: {e}", path, AGAIN) from None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def read_about(folder: Path | str) -> About:
    """Read ``about.json``.

    Raises:
        DataError: It is missing or damaged.
    """
    path = Path(folder) / ABOUT
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return About(**{f.name: known[f.name] for f in fields(About)})
    except (OSError, ValueError, TypeError, KeyError) as e:
        what = f"no usable sentence embeddings: {type(e).__name__}"
        raise DataError(what, path, AGAIN) from None


@dataclass(frozen=True)
class Report:
    """What :func:`build_store` did.

    Attributes:
        texts, computed: Rows, and those that were computed now.
        cosine: Mean cosine of different texts of a sample.
        retrieval: Of translations, see :func:`similarity.retrieval`.
    """

    texts: int
    computed: int
    cosine: float
    retrieval: dict[tuple[str, str], float]

    def lines(self) -> list[str]:
        """Return what to tell."""
        kept = f" ({self.computed:,} computed now)" if self.computed < self.texts else ""
        out = [f"{self.texts:,} sentence embeddings{kept}, mean cosine {self.cosine:.2f}"]
        if line := similarity.told(self.retrieval):
            out.append(line)
        if self.cosine > similarity.COLLAPSED:
            out.append(
                f"warning: embeddings of different texts are alike (mean cosine {self.cosine:.2f}):"
                " the encoder tells little, and the loss is small from the start"
            )
        return out


def build_store(
    folder: Path | str,
    texts: Iterable[str],
    encoder: Any,
    pairs: Sequence[similarity.Parallel] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write the embeddings of all texts; those of the same encoder that are there are kept.

    Args:
        folder: To write, atomically.
        texts: In any form; see :func:`text_key`.
        encoder: A :class:`~espnet_ext.text.sentence.SentenceEncoder`.
        pairs: Translations among which retrieval is measured; their texts are embedded, too.
        progress: Called as ``progress(done, total)``.
    """
    folder = Path(folder)
    wanted = dict.fromkeys(text_key(t) for t in (*texts, *(p.text for p in pairs)))
    old = _reusable(folder, encoder.fingerprint)
    new = [t for t in wanted if old is None or t not in old]
    made = dict(zip(new, encoder(new, progress), strict=True)) if new else {}
    rows = [made[t] if t in made else old[t] for t in wanted]
    if not rows:
        raise DataError("there is no text to embed", folder, "see data/<set>/plain")
    vectors = np.stack(rows).astype(np.float32, copy=False)
    about = About(
        fingerprint=encoder.fingerprint,
        pooling=encoder.layout.name,
        width=vectors.shape[1],
        source="/".join(Path(encoder.source).parts[-2:]),
    )
    with atomic_dir(folder) as tmp:
        np.save(tmp / VECTORS, vectors)
        lines = (json.dumps(t, ensure_ascii=False) + "\n" for t in wanted)
        (tmp / TEXTS).write_text("".join(lines), encoding="utf-8", newline="\n")
        write_json(tmp / ABOUT, asdict(about))
    at = {t: i for i, t in enumerate(wanted)}
    found = similarity.retrieval(pairs, vectors[[at[text_key(p.text)] for p in pairs]])
    step = max(1, len(vectors) // SAMPLE)
    return Report(len(vectors), len(new), similarity.mean_cosine(vectors[::step]), found)


def _reusable(folder: Path, fingerprint: str) -> SentenceStore | None:
    try:
        return SentenceStore(folder, fingerprint=fingerprint)
    except DataError:
        return None
