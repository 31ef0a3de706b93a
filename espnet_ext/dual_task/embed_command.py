# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext embed --model MODEL AUDIO ... [options]

  AUDIO                audio files, or Kaldi-style folders with wav.scp (and segments)
  --model MODEL        model of a dual_task recipe: archive of stage 10, or exp/<name>
  --out FILE.npz       write the arrays 'ids' (N,) and 'embeddings' (N, E) in place of printing them
  --retrieve TEXTS     rank texts of any language for each utterance: a text on each line, or a
                       table (.tsv) with the header 'meaning language text'
  --top K              texts for each utterance (default: 5)
  --sentence-encoder F its folder or name on the hub (default: the one that the model names)
  --device D           cpu, cuda or cuda:N (default: cpu)
  --batch-s S          seconds of audio in a batch, padding included (default: 60)
  --longest-s S        the encoder sees longer audio in pieces (default: 60)

Output on stdout, in the order of the input: a line of JSON for each utterance, {"id": ..,
"embedding": [..]}, or with --retrieve {"id": .., "retrieved": [{"text": .., "cosine": ..}, ..]},
best first; texts of a table with their meaning and language. Audio that is too short for the model
has null, or no texts; it is left out of FILE.npz and named on stderr.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from espnet_ext import commandline
from espnet_ext.data.utterances import Utterance
from espnet_ext.dual_task.decode_command import audio_of, loaded, parser, printed, understood
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_path
from espnet_ext.text.similarity import Parallel


def main(argv: list[str]) -> int:
    """Run ``espnet-ext embed``; return the exit code."""
    if not argv or commandline.asks_for_help(argv):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    p = parser("espnet-ext embed")
    p.add_argument("--out", default="")
    p.add_argument("--retrieve", default="")
    p.add_argument("--top", type=commandline.count, default=5)
    p.add_argument("--sentence-encoder", default="")
    args = commandline.parse(p, argv)
    if args.sentence_encoder and not args.retrieve:
        raise UsageError("--sentence-encoder is for texts", "espnet-ext embed", "add --retrieve")
    if args.out and not args.out.endswith(".npz"):
        raise UsageError(f"'{args.out}' does not end in .npz", "--out", "FILE.npz")
    texts = read_texts(Path(args.retrieve)) if args.retrieve else []
    return printed(_embed(args, audio_of(args), texts))


def read_texts(path: Path) -> list[Parallel]:
    """Read texts to rank: a table with ``meaning language text``, or a text on each line.

    Raises:
        DataError: There is no text, or the file is not readable.
    """
    if path.suffix == ".tsv":
        from espnet_ext.text.parallel import read_parallel

        rows = read_parallel(path)
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as e:
            what = f"not readable: {getattr(e, 'strerror', None) or e}"
            raise DataError(what, path, "give a UTF-8 file with a text on each line") from None
        rows = [Parallel("", "", " ".join(line.split())) for line in lines if line.strip()]
    if not rows:
        raise DataError("there are no texts to rank", path, "give at least one")
    return list(dict.fromkeys(rows))


def _embed(
    args: argparse.Namespace, items: list[Utterance], texts: list[Parallel]
) -> Iterator[dict]:
    import numpy as np

    options = {"sentence_encoder": args.sentence_encoder, "retrieval": True} if texts else {}
    understand = loaded(args, **options)
    understand.check_embeds()
    vectors = understand.sentences([row.text for row in texts]) if texts else None
    ids, kept = [], []
    for utt, found in understood(understand, items):
        if found.embedding is not None and args.out:
            ids.append(utt)
            kept.append(found.embedding)
        if texts:
            yield {"id": utt, "retrieved": _ranked(found.embedding, vectors, texts, args.top)}
        elif not args.out:
            vector = found.embedding
            yield {"id": utt, "embedding": None if vector is None else _short(vector)}
    if args.out:
        rows = np.stack(kept) if kept else np.zeros((0, understand.width), np.float32)
        with atomic_path(args.out) as tmp, open(tmp, "wb") as f:
            np.savez_compressed(f, ids=np.array(ids, dtype=str), embeddings=rows)
        print(f"{args.out}: {len(rows)} embeddings of {rows.shape[1]} values", file=sys.stderr)


def _ranked(vector: Any, vectors: Any, texts: list[Parallel], top: int) -> list[dict]:
    from espnet_ext.dual_task.retrieval import rank

    if vector is None:
        return []
    best = rank(vector[None], vectors, top)[0]
    rows = [(asdict(texts[i]), cosine) for i, cosine in best]
    return [{**{k: v for k, v in row.items() if v}, "cosine": round(c, 6)} for row, c in rows]


def _short(vector: Any) -> list[float]:
    return [float(f"{x:.7g}") for x in vector]
