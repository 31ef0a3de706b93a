# SPDX-License-Identifier: Apache-2.0
"""ASR transcripts of a data directory by any ESPnet model; a killed run goes on."""

import functools
import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.data import audio
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.data.utterances import utterances
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet.archive import asr_files
from espnet_ext.espnet.decode import by_length, named
from espnet_ext.espnet.recognise import load_recogniser
from espnet_ext.files import sha256_file, sha256_json, write_json, write_text
from espnet_ext.hub import found
from espnet_ext.packed import META, how_packed, is_packed
from espnet_ext.progress import progress_log
from espnet_ext.recipe.executor import make_executor
from espnet_ext.recipe.lock import hold
from espnet_ext.recipe.options import Options

PART = 200  # utterances of a part: what a kill can lose, times the number of processes
BATCH_S = 60.0  # seconds of audio in a batch of the greedy search, padding included


@dataclass(frozen=True)
class Transcripts:
    """What was made.

    Attributes:
        texts: Best text of each utterance.
        nbest: Hypotheses of each utterance, ``(text, log score or None)``, best first.
        audio_s: Seconds of audio.
        wall_s: Processor seconds of recognition; loading the model is left out.
        wer: Word error rate against ``text`` of the data directory in percent; None without one.
        too_short: Utterances that are too short for the model; their texts are empty.
    """

    texts: dict[str, str]
    nbest: dict[str, list[tuple[str, float | None]]]
    audio_s: float
    wall_s: float
    wer: float | None = None
    too_short: list[str] = field(default_factory=list)


def transcribe(
    data_dir: Path | str,
    asr_config: Path | str,
    asr_model: Path | str | None,
    out_table: Path | str,
    beam_args: dict | None = None,
    nj: int = 1,
    nbest: int = 1,
    device: str = "cpu",
    part: int = PART,
) -> Transcripts:
    """Recognise all utterances of a Kaldi-style data directory and write their texts.

    Parts that are done stay beside the table in a hidden folder until all are, so that a killed
    run goes on; another wav.scp, model or option starts over. Audio of another rate is resampled.

    Args:
        data_dir: Folder with ``wav.scp``; with ``segments`` its utterances are cut out.
        asr_config: ``config.yaml`` of an ESPnet ASR training, or a packed model.
        asr_model: Its checkpoint; None where ``asr_config`` is a packed model.
        out_table: Kaldi table to write; ``<out_table>.json`` beside it has the figures, and
            with ``nbest > 1`` ``<out_table>.nbest.tsv`` has ``utterance, score, text`` a line.
        beam_args: Options of ESPnet's ``Speech2Text``; None: greedy CTC search.
        nj: Processes.
        nbest: Hypotheses of an utterance, at most.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        part: Utterances of a part, at most.

    Raises:
        DataError: Audio, table or model is missing or not usable.
        UsageError: ``nj``, ``nbest`` or ``part`` is below 1, or greedy search with ``nbest > 1``.
    """
    if min(nj, nbest, part) < 1:
        raise UsageError("nj, nbest and part must be at least 1", "transcribe")
    if nbest > 1 and beam_args is None:
        raise UsageError("greedy search has one hypothesis", "nbest", "give beam_args, --beam N")
    out, items = Path(out_table), utterances(data_dir)
    asr_config = found(asr_config) if asr_model is None else asr_config
    _check_files(asr_config, asr_model)
    identity = _identity(Path(data_dir), asr_config, asr_model, beam_args, nbest)
    work = out.with_name(f".{out.name}.parts")
    work.mkdir(parents=True, exist_ok=True)
    with hold(work / "lock", progress_log.info):
        _start(work, identity)
        if jobs := _jobs(work, items, part, nj):
            _recognise_all(jobs, asr_config, asr_model, beam_args, nj, nbest, device)
        result = _merge(work, [utt for utt, *_ in items], Path(data_dir))
        _write(out, result, nbest)
        shutil.rmtree(work)
    return result


def _check_files(*paths: Path | str | None) -> None:
    for path in paths:
        if path is not None and not is_packed(Path(path)):
            if Path(path).is_dir():
                raise DataError("the folder is no packed model", path, how_packed(path))
            raise DataError("there is no such file", path, "give the files of a trained ASR model")


def _identity(data_dir: Path, config: Any, model: Any, beam: Any, nbest: int) -> str:
    files = [config, model, data_dir / "wav.scp", data_dir / "segments"]
    if Path(config).is_dir():  # of a published model
        files += sorted(p for p in Path(config).rglob("*") if p.suffix == ".pth" or p.name == META)
    sums = [sha256_file(f) if f is not None and Path(f).is_file() else None for f in files]
    return sha256_json([sums, beam, nbest])


def _start(work: Path, identity: str) -> None:
    """Keep the parts of a killed run only if they belong to the same work."""
    marker = work / "identity"
    if not marker.exists() or marker.read_text(encoding="utf-8") != identity:
        for file in _parts(work):
            file.unlink()
        write_text(marker, identity)


def _parts(work: Path) -> list[Path]:
    return sorted(work.glob("*.json"))


def _done(work: Path) -> set[str]:
    """Return the utterances of the parts that are done."""
    texts = (file.read_text(encoding="utf-8") for file in _parts(work))
    return {utt for text in texts for utt in json.loads(text)["hypotheses"]}


def _jobs(work: Path, items: list, part: int, nj: int) -> list[tuple[Path, list]]:
    """Return what is left to do, in parts."""
    done = _done(work)
    todo = [item for item in items if item[0] not in done]
    if done and todo:
        progress_log.info(f"{len(items) - len(todo)} of {len(items)} utterances are there")
    size = max(1, min(part, -(-len(todo) // (2 * nj))))  # so that no process is idle
    return [(work, todo[i : i + size]) for i in range(0, len(todo), size)]


def _recognise_all(
    jobs: list, config: Any, model: Any, beam: Any, nj: int, nbest: int, device: str
) -> None:
    start, done, total = time.monotonic(), 0, sum(len(items) for _, items in jobs)
    with ExitStack() as stack:
        if model is None:
            config, model, more = stack.enter_context(asr_files(config))
            beam = None if beam is None else {**more, **beam}
        fixed = (str(config), str(model), json.dumps(beam), nbest, device)
        stack.callback(_loaded.cache_clear)  # else the same names could be another model later
        executor = stack.enter_context(make_executor(Options(nj=nj)))
        for count in executor.map(_part, [(*fixed, *job) for job in jobs]):
            done += count
            rate = done / (time.monotonic() - start)
            progress_log.info(f"{done}/{total} utterances, {rate:.1f}/s")


# A process recognises many parts with one model.
_loaded = functools.lru_cache(maxsize=1)(
    lambda config, model, beam, nbest, device: load_recogniser(
        Path(config), Path(model), json.loads(beam), nbest, device
    )
)


def _part(job: tuple) -> int:
    """Recognise one part and write its file; return the number of utterances."""
    *model, work, items = job
    recognise = _loaded(*model)
    found, audio_s, start = {}, 0.0, time.perf_counter()
    read = ((utt, named(utt, functools.partial(_read, item, recognise.fs))) for utt, *item in items)
    lengths = [(len(speech) / recognise.fs, (utt, speech)) for utt, speech in read]
    for batch in by_length(lengths, BATCH_S):
        audio_s += sum(len(x) for _, x in batch) / recognise.fs
        recognised = recognise([x for _, x in batch])
        for (utt, _), hypotheses in zip(batch, recognised, strict=True):
            found[utt] = [[" ".join(text.split()), score] for text, score in hypotheses]
    wall_s = time.perf_counter() - start
    name = sha256_json(list(found))[:16]
    write_json(work / f"{name}.json", {"hypotheses": found, "audio_s": audio_s, "wall_s": wall_s})
    return len(found)


def _read(item: list[Any], fs: int) -> np.ndarray:
    path, start_s, end_s = item
    return audio.resample(*audio.read(path, start_s, end_s), fs)


def _merge(work: Path, utts: list[str], data_dir: Path) -> Transcripts:
    nbest: dict[str, list[tuple[str, float | None]]] = {}
    audio_s = wall_s = 0.0
    for file in _parts(work):
        part = json.loads(file.read_text(encoding="utf-8"))
        nbest |= {u: [(t, s) for t, s in h] for u, h in part["hypotheses"].items()}
        audio_s, wall_s = audio_s + part["audio_s"], wall_s + part["wall_s"]
    if nbest.keys() != set(utts):
        lost = sorted(set(utts) - nbest.keys())
        raise DataError(f"{len(lost)} of {len(utts)} utterances have no transcript", lost[:5])
    short = [u for u in utts if not nbest[u]]
    if short:
        shown = ", ".join(short[:5]) + (", ..." if short[5:] else "")
        progress_log.warning(f"{len(short)} utterances are too short to recognise: {shown}")
    nbest = {u: nbest[u] or [("", None)] for u in utts}
    texts = {u: nbest[u][0][0] for u in utts}
    wer = word_error_rate(data_dir / "text", texts)
    return Transcripts(texts, nbest, audio_s, wall_s, wer, short)


def word_error_rate(reference: Path, texts: dict[str, str]) -> float | None:
    """Return the word error rate in percent of ``texts``, lower-cased on both sides.

    Args:
        reference: Kaldi table; further utterances in it do not count.
        texts: Text of each utterance.

    Returns:
        None if there is no such table, it lacks an utterance, or all its texts are empty.
    """
    if not reference.is_file():
        return None
    refs = read_table(reference)
    if not texts.keys() <= refs.keys() or not any(refs[u].split() for u in texts):
        return None
    from espnet_ext.scoring.edits import score_sets

    lower = {u: t.lower() for u, t in texts.items()}
    return score_sets({u: refs[u].lower() for u in texts}, lower).rate


def _write(out: Path, result: Transcripts, nbest: int) -> None:
    figures = {
        "utterances": len(result.texts),
        "empty": sum(not t for t in result.texts.values()),
        "too_short": len(result.too_short),
        "audio_s": round(result.audio_s, 2),
        "wall_s": round(result.wall_s, 3),
        "rtf": round(result.wall_s / max(result.audio_s, 1e-9), 5),
        "wer": None if result.wer is None else round(result.wer, 3),
    }
    if nbest > 1:
        rows = [
            f"{utt}\t{'' if score is None else repr(score)}\t{text}\n"
            for utt in sorted(result.nbest, key=str.encode)
            for text, score in result.nbest[utt]
        ]
        write_text(f"{out}.nbest.tsv", "".join(rows))
    write_json(f"{out}.json", figures)
    write_table(out, result.texts)
