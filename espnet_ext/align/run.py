# SPDX-License-Identifier: Apache-2.0
"""Train an aligner on a data folder, or align a folder with a trained one."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.align import confidence, missing
from espnet_ext.align import model as model_files
from espnet_ext.align.corpus import MapFn, prepare, skip_lines
from espnet_ext.align.evaluate.check import write_missing
from espnet_ext.align.features.features import WINDOW_S
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.formats.write import Times, write_alignment
from espnet_ext.align.hybrid.files import load_network
from espnet_ext.align.model import AlignModel
from espnet_ext.align.models import told
from espnet_ext.align.options import AlignOptions
from espnet_ext.align.passes.confidence import evidence_shard
from espnet_ext.align.passes.gmm import mono_pass, tri_pass
from espnet_ext.align.passes.hybrid import fbank_options, hybrid_pass, hybrid_shard
from espnet_ext.align.passes.kept import forget
from espnet_ext.align.passes.lda_mllt_sat import estimate_speakers, lda_mllt_pass, sat_pass
from espnet_ext.align.passes.shard import align_shard, load_tree
from espnet_ext.align.search import segfile
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.session import Model, Session, totals
from espnet_ext.align.spoil import spoil
from espnet_ext.errors import DataError
from espnet_ext.progress import count

Say = Callable[[str], None]
Pairs = Callable[[], Iterator[tuple[str, Segmentation, np.ndarray]]]
Scores = dict[str, np.ndarray]


def train_aligner(data: Path, work: Path, o: AlignOptions, map_fn: MapFn, say: Say) -> Session:
    """Train the passes on ``data``; see :func:`save_model` and :func:`write_pass`.

    Args:
        data: Kaldi-style folder: wav.scp, text, utt2spk (segments).
        work: Features and intermediate results; a killed training goes on from there.
        o: Options.
        map_fn: Ordered map over plain data, e.g. of an executor.
        say: Receives the lines of progress.

    Raises:
        DataError: Nothing can be aligned, or a file is unusable.
    """
    corpus = prepare(data, work, o, map_fn, say)
    say(
        f"  {count(corpus.utterances, 'utterance')}, {corpus.frames * o.shift_s / 60:,.1f} minutes"
        + (f"; {len(corpus.skipped):,} skipped" if corpus.skipped else "")
    )
    session = Session(work, corpus, o, map_fn, say, key=corpus.key)
    try:
        for name in o.passes:
            before = session.models[o.passes[o.passes.index(name) - 1]] if session.models else None
            PASSES[name](session, before, data)
    finally:
        forget()  # where the jobs ran in this process
    for line in skip_lines(session.reports[-1]["failures"]):
        say(f"  {line}")
    return session


def learn_confidence(session: Session, model: AlignModel, data: Path) -> None:
    """Learn how probable it is that a word was spoken, and write that to the model.

    Args:
        session: The training; its last pass is that of ``model``.
        model: What :func:`save_model` wrote.
        data: The data it was trained on.
    """
    start, segs = time.perf_counter(), session.folder(model.final) / "segs"
    found = _evidence(session, model, segs)
    usual = confidence.usual((row[1:] for row in found()), len(model.phones))
    places, rows = _spoilt(session, model, data)
    known = confidence.learn(places, rows(), usual)
    if known is None:
        session.say("  too few utterances to learn which words are doubtful")
        return
    left_out, rows = _spoilt(session, model, data, leave_out=True)
    lack = missing.learn(left_out, rows(), found(), usual)
    replace(known, missing=lack).save(model.folder)
    wall_s = time.perf_counter() - start
    session.say(
        f"  confidence of words: learnt from {len(places):,} wrong and {len(left_out):,} missing "
        f"ones ({wall_s:.0f} s)"
    )


def _spoilt(s: Session, model: AlignModel, data: Path, **how: bool) -> tuple[dict[str, int], Pairs]:
    """Make transcripts wrong; return the places, and what is then aligned."""
    work = s.work / "spoilt"
    places = spoil(s.corpus, work, s.options.seed, **how)
    corpus = replace(s.corpus, work=work)
    own = replace(s, work=work, corpus=corpus, reports=[], say=lambda line: None)
    _align_all(own, model, data)
    return places, _evidence(own, model, work / "segs")


def _evidence(s: Session, model: AlignModel, segs: Path) -> Pairs:
    """Compute the evidence of all phones; see :mod:`espnet_ext.align.passes.confidence`."""
    out = s.work / "evidence"
    shutil.rmtree(out, ignore_errors=True)
    s.run(
        evidence_shard, gmm=model.file("gmm.npz"), tree=model.file("tree.json"),
        transform=model.file("transform.npz"), fmllr=speaker_transforms(s, model),
        segs=str(segs), evidence_out=str(out),
    )  # fmt: skip
    return partial(confidence.pairs, segs, out, s.corpus.shards)


def _trust(s: Session, model: AlignModel, segs: Path) -> tuple[Scores, Scores]:
    """Return the probabilities that each word of an utterance was spoken, and that one is missing
    at each place; empty if the model does not know."""  # fmt: skip
    words: Scores = {}
    places: Scores = {}
    if (known := confidence.Confidence.load(model.folder)) is None:
        return words, places
    lack = missing.Missing(**known.missing) if known.missing else None
    for utt, seg, evidence in _evidence(s, model, segs)():
        words[utt] = known.words(seg, evidence)
        if lack:
            places[utt] = lack.places(seg, evidence)
    return words, places


def speaker_transforms(s: Session, model: AlignModel) -> str:
    """Return the folder of the speakers' transforms; empty if the model has none."""
    return estimate_speakers(s, model) if model.file("si_gmm.npz") else ""


def save_model(session: Session, out: Path, upto: str, data: Path) -> AlignModel:
    """Write the model of a pass, with those before it that it needs."""
    names = session.options.passes
    chosen = {n: session.models[n] for n in names[: names.index(upto) + 1]}
    phones = session.corpus.pronunciations.phone_set()
    return model_files.save(out, chosen, session.options, phones, str(data))


def write_pass(
    session: Session, name: str, out: Path, data: Path, saved: AlignModel | None = None
) -> AlignmentDir:
    """Write the alignment of the training data by one pass.

    Args:
        session: The training.
        name: Of the pass.
        out: Alignment directory to write.
        data: The data it was trained on.
        saved: The model of this pass, for the confidence in words.
    """
    model, segs = session.models[name], session.folder(name) / "segs"
    times = session.options.times_of(name)
    timer = session.models[times].gmm, session.models[times].tree
    words, places = _trust(session, saved, segs) if saved else ({}, {})
    report = next(r for r in session.reports if r["name"] == name)
    made_by = f"{name} ({report['network']})" if "network" in report else name
    alignment = write_alignment(
        session.corpus,
        segs,
        load_tree(model.tree),
        session.corpus.pronunciations.phone_set(),
        out,
        source=f"espnet_ext align, {'-'.join(session.options.passes)}, pass {made_by}",
        trained_on=str(data),
        failures=report["failures"],
        textgrid=session.options.textgrid,
        times=_times(session, times, segs, timer if times != name else None),
        word_scores=words,
    )
    write_missing(alignment, places)
    return alignment


def _times(s: Session, name: str, segs: Path, timer: tuple[str, str] | None) -> Times:
    """Return the times to write: those of ``segs``, or of its phones by another pass.

    Args:
        s: The session.
        name: The pass.
        segs: Folder of alignments.
        timer: Files of the other pass: GMM and tree.
    """
    folder = segs
    if timer:
        folder = segs.with_name("times")
        shutil.rmtree(folder, ignore_errors=True)
        job = {"gmm": timer[0], "tree": timer[1], "fixed": str(segs)}
        s.run(align_shard, **job, segs_out=str(folder))
    shift_s = s.options.shift_s
    deltas_s = s.options.delta_order * s.options.delta_window * shift_s
    reach_s = (WINDOW_S - shift_s) / 2  # what a frame's window has of the time on each side of it
    return Times(name, folder, *((reach_s + deltas_s, reach_s) if s.options.edges else ()))


def report_extra(session: Session) -> dict[str, Any]:
    """Return what the report of a training tells besides its passes."""
    store = session.corpus.store
    known = set(store.utts)
    lost = {u for u, *_ in session.corpus.skipped} | {
        u for r in session.reports[-1:] for u, *_ in r["failures"]
    }
    return {
        "agreement": _agreement(session),
        "skipped_s": {u: store.frames(u) * session.options.shift_s for u in sorted(lost & known)},
        "utterances_with_spoken_noise": session.corpus.with_spoken_noise(),
        "passes_of_an_earlier_run": session.reused,
        "audio_warnings": store.warnings,
    }


def _agreement(session: Session) -> dict[str, dict[str, float]]:
    """Return the shares of frames on whose phone and word two passes in a row agree."""
    out, names = {}, session.corpus.pronunciations.phone_set()
    for a, b in pairwise(session.options.passes):
        frames = phones = words = 0
        for i in range(session.corpus.shards):
            segs = [segfile.load(session.folder(name) / "segs" / f"{i}.npz") for name in (a, b)]
            for utt in segs[0].keys() & segs[1].keys():
                one, two = (part[utt].whole(names) for part in segs)
                frames += one.frames
                phones += int((one.frame_phones() == two.frame_phones()).sum())
                words += int((one.frame_words() == two.frame_words()).sum())
        shares = {"phones": phones / max(1, frames), "words": words / max(1, frames)}
        out[f"{a}, {b}"] = {key: round(share, 4) for key, share in shares.items()}
    return out


def apply_aligner(
    model: AlignModel, data: Path, out: Path, work: Path, map_fn: MapFn, say: Say, **changes: Any
) -> tuple[AlignmentDir, list[dict]]:
    """Align another folder with a trained model.

    Args:
        model: The aligner.
        data: Kaldi-style folder.
        out: Alignment directory to write.
        work: Folder for features and intermediate results.
        map_fn: Ordered map over plain data.
        say: Receives the lines of progress.
        **changes: Options other than those of training: ``lexicon``, ``oov``, ``textgrid``...

    Returns:
        The alignment, and a report row as of a pass.
    """
    o = replace(model.options, **changes)
    corpus = prepare(data, work, o, map_fn, say, phones=model.phones)
    s = Session(work, corpus, o, map_fn, say)
    start = time.perf_counter()
    sums = align_some(s, model, data)
    for line in skip_lines(sums["failed"]):
        say(f"  {line}")
    timer = model.file("times_gmm.npz"), model.file("times_tree.json")
    times = _times(s, model.times, work / "segs", timer if model.times != model.final else None)
    words, places = _trust(s, model, work / "segs")
    alignment = write_alignment(
        corpus, work / "segs", load_tree(model.file("tree.json")), model.phones, out,
        source=f"espnet_ext align, {_made_by(model)} of {told(model.folder)}",
        trained_on=model.trained_on, failures=sums["failed"], textgrid=o.textgrid,
        times=times, word_scores=words,
    )  # fmt: skip
    write_missing(alignment, places)
    row = {
        "name": model.final,
        "iterations": [],
        "loglik_per_frame": sums["loglik"] / sums["frames"],
        "silence_share": sums["silence"] / sums["frames"],
        "aligned": sums["aligned"],
        "failures": sums["failed"],
        "align_frames_per_cpu_s": round(sums["frames"] / max(sums["cpu_s"], 1e-9)),
        "wall_s": round(time.perf_counter() - start, 2),
    }
    return alignment, [row]


def _made_by(model: AlignModel) -> str:
    adapted = ", adapted" if model.adapted_from else ""
    if model.final != "hybrid":
        return f"{model.final}{adapted}"
    return f"hybrid ({load_network(model.network_file())}{adapted})"


def align_some(s: Session, model: AlignModel, data: Path) -> dict[str, Any]:
    """Align by the model's last pass into ``work/segs``; return the sums over the shards.

    Raises:
        DataError: Nothing can be aligned.
    """
    sums = totals(_align_all(s, model, data))
    if not sums["aligned"]:
        raise DataError("no utterance could be aligned", data, f"first: {sums['failed'][:1]}")
    return sums


def _align_all(s: Session, model: AlignModel, data: Path) -> list[dict]:
    """Run the search of the model's last pass over all shards."""
    o, work = s.options, s.work
    shutil.rmtree(work / "segs", ignore_errors=True)
    common = {"segs_out": str(work / "segs"), "tree": model.file("tree.json")}
    if model.final == "hybrid":
        FeatureStore.build(work / "fbank", data, fbank_options(o), map=s.map_fn)
        results, _ = s.run(
            hybrid_shard, **common, network=model.network_file(),
            prior_scale=o.hybrid.prior_scale, device=o.hybrid.device,
        )  # fmt: skip
    else:
        results, _ = s.run(
            align_shard, **common, gmm=model.file("gmm.npz"),
            transform=model.file("transform.npz"), fmllr=speaker_transforms(s, model),
        )  # fmt: skip
    return results


PASSES: dict[str, Callable[..., Model]] = {
    "mono": mono_pass,
    "tri": tri_pass,
    "lda_mllt": lda_mllt_pass,
    "sat": sat_pass,
    "hybrid": hybrid_pass,
}
