# SPDX-License-Identifier: Apache-2.0
"""How much of the meaning of speech its embedding keeps: what stage 8 writes beside the texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.data.transcripts import read_texts
from espnet_ext.dual_task.retrieval import Candidates, Retrieved, retrieve_set
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.text.sentence_store import SentenceStore, text_key
from espnet_ext.text.similarity import Parallel

if TYPE_CHECKING:
    import numpy as np


class Retention:
    """Sentences that speech retrieves, and their vectors.

    Args:
        store: Folder of the sentence vectors.
        candidates: Table of sentences; without the file, those of each set are taken.
        width: Values of the embeddings of speech.

    Raises:
        DataError: A file is missing or damaged, or a sentence has no vector.
    """

    def __init__(self, store: Path | str, candidates: Path, width: int):
        self._store = SentenceStore(store, width)
        self._candidates: Candidates | None = None
        if candidates.is_file():
            from espnet_ext.text.parallel import read_parallel

            self._candidates = Candidates(read_parallel(candidates), self._store.__getitem__)

    def measure(
        self, name: str, embeddings: Mapping[str, "np.ndarray"], out: Path, prefix: str = ""
    ) -> str:
        """Write ``retrieved``, ``retrieved_other`` and ``cosine`` of a set; tell them in a line.

        Utterances of the set without an embedding retrieve nothing, and have the cosine 0.

        Args:
            name: Of the set; ``data/<name>`` has its sentences.
            embeddings: ``(E,)`` by utterance.
            out: Folder to write to.
            prefix: Of the names of the files.
        """
        plain = read_texts(DATA / name / "plain")
        meanings = self._table(name, "meaning") or {u: text_key(t) for u, t in plain.items()}
        languages = self._table(name, "utt2lang")
        candidates = self._candidates or Candidates(
            [Parallel(meanings[u], languages.get(u, ""), text_key(t)) for u, t in plain.items()],
            self._store.__getitem__,
        )
        known = {u: x for u, x in embeddings.items() if u in plain}
        found = retrieve_set(candidates, known, plain, languages, meanings, self._store.__getitem__)
        write_table(out / f"{prefix}retrieved", found.same)
        if found.other:
            write_table(out / f"{prefix}retrieved_other", found.other)
        write_table(out / f"{prefix}cosine", {u: f"{c:.6f}" for u, c in found.cosine.items()})
        return _told(found, meanings)

    def _table(self, name: str, file: str) -> dict[str, str]:
        path = DATA / name / file
        return dict(read_table(path)) if path.exists() else {}


def _told(found: Retrieved, meanings: Mapping[str, str]) -> str:
    def share(retrieved: Mapping[str, str]) -> float:
        return 100 * sum(meanings[u] == m for u, m in retrieved.items()) / max(1, len(retrieved))

    parts = [f"retrieval {share(found.same):.1f} %"]
    if found.other:
        parts.append(f"in other languages {share(found.other):.1f} %")
    mean = sum(found.cosine.values()) / max(1, len(found.cosine))
    return ", ".join([*parts, f"cosine {mean:.3f}"])
