# SPDX-License-Identifier: Apache-2.0
"""SLURP's recordings decoded by an ESPnet model, in the form of SpokenCSE's released set."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from slurp_text import SPLITS, Sentence, one_line

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file, sha256_json, write_json

FOLDERS = ("", "slurp_real", "audio/slurp_real")


def chosen(files: tuple[str, ...], which: str) -> list[str]:
    """Return the recordings of a sentence that are used: ``all``, ``headset`` or the ``first``."""
    if which == "headset":
        return [f for f in files if Path(f).stem.endswith("-headset")]
    return list(files[:1] if which == "first" else files)


def find_audio(names: list[str]) -> dict[str, Path]:
    """Return ``{file name: path}`` of recordings below SLURP_AUDIO.

    Raises:
        DataError: It is not set, or recordings are missing; the first is named.
    """
    value = os.environ.get("SLURP_AUDIO")
    how = "get slurp_real.tar.gz from https://zenodo.org/record/4274930 (CC BY-NC 4.0), unpack it"
    if not value:
        raise DataError("SLURP_AUDIO is not set, and there are recordings to decode", None, how)
    root = Path(value)
    folder = next((root / f for f in FOLDERS if (root / f / names[0]).is_file()), root)
    paths = {name: (folder / name).absolute() for name in names}
    if missing := [p for p in paths.values() if not p.is_file()]:
        what = f"{len(missing)} of {len(names)} recordings are missing"
        raise DataError(what, missing[0], how)
    return paths


def model_files(args: argparse.Namespace, given: Callable[[str], Path]) -> tuple[Path, Path | None]:
    """Return the configuration, or archive, and the checkpoint of the ASR model.

    Raises:
        DataError: One of them does not exist.
    """
    config = given(args.asr_config)
    model = given(args.asr_model) if args.asr_model else None
    for path in filter(None, (config, model)):
        if not path.is_file():
            raise DataError("there is no such file", path, "give the files of a trained ASR model")
    return config, model


def write_decoded(
    args: argparse.Namespace,
    sentences: dict[str, list[Sentence]],
    given: Callable[[str], Path],
) -> Path:
    """Decode the recordings, split by split, and write ``slurp_espnet.json``; return its path.

    What is decoded stays in a folder of ``args.work`` named after the model and its options, so
    nothing is decoded twice.
    """
    config, model = model_files(args, given)
    options = {"beam_size": args.beam} if args.beam else None
    identity = [sha256_file(p) for p in (config, model) if p], options, args.recordings
    work = args.work / sha256_json(identity)[:12]
    content: dict[str, list[dict]] = {}
    for split in SPLITS:
        rows = [(s, f) for s in sentences[split] for f in chosen(s.files, args.recordings)]
        texts = _decode(work / split, rows, config, model, options, args.nj)
        content[split] = [_sample(i, s, f, texts[Path(f).stem]) for i, (s, f) in enumerate(rows)]
    write_json(out := work / "slurp_espnet.json", content)
    print(f"{out}: to use it again, SLURP={out.parent} with --asr released "
          f"--released {out.name} --system espnet")  # fmt: skip
    return out


def _decode(
    folder: Path,
    rows: list[tuple[Sentence, str]],
    config: Path,
    model: Path | None,
    beam: dict | None,
    nj: int,
) -> dict[str, str]:
    """Return ``{utterance: ASR text}`` of a split."""
    if not rows:
        raise DataError(f"{folder.name} has no such recordings", folder, "--recordings all")
    references = {Path(f).stem: s.text for s, f in rows}
    if len(references) < len(rows):
        raise DataError("two recordings have the same name", folder, "get the text again")
    done = folder / "text_asr"
    if done.is_file() and (texts := read_table(done)).keys() == references.keys():
        print(f"{folder.name}: {len(texts)} recordings are decoded already, {done}")
        return texts
    from espnet_ext.ml_lmcl.transcribe import transcribe

    paths = find_audio([f for _, f in rows])
    write_table(folder / "wav.scp", {Path(f).stem: p for f, p in paths.items()})
    write_table(folder / "text", references)
    result = transcribe(folder, config, model, done, beam, nj)
    rate = "" if result.wer is None else f", WER {result.wer:.1f} %"
    print(f"{folder.name}: {len(result.texts)} recordings, {result.audio_s / 3600:.2f} h{rate}")
    return result.texts


def _sample(number: int, sentence: Sentence, file: str, asr: str) -> dict:
    """Return a sample with the fields of the released set; ``wer`` is a share, not percent."""
    from espnet_ext.scoring.edits import score_sets

    asr = one_line(asr)
    score = score_sets({"u": sentence.text.lower()}, {"u": asr.lower()})
    wer = int(score.errors.sum()) / max(int(score.ref_len.sum()), 1)
    return {
        "id": number,
        "slurp_id": sentence.slurp_id,
        "file": file,
        "sentence": sentence.text,
        "golden": sentence.text,
        "scenario": sentence.scenario,
        "action": sentence.action,
        "espnet": {"sentence": asr, "wer": round(wer, 4)},
    }
