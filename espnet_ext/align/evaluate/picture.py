# SPDX-License-Identifier: Apache-2.0
"""A picture of an utterance, and a page of those that most need a look.

A picture shows the spectrogram, the words in the colour of the confidence in them, and the phones.
"""

import argparse
import html
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from espnet_ext.align.evaluate import check
from espnet_ext.align.formats.segmented import read_segments
from espnet_ext.align.formats.sources import Source, open_alignment
from espnet_ext.align.formats.tiers import Interval, Utterance, file_name
from espnet_ext.data import audio
from espnet_ext.data.content import ContentError
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.files import atomic_path, write_text
from espnet_ext.installation import install

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORST = 20
PAGE, PICTURE = "index.html", ".png"
INCHES = (8.0, 60.0)  # least and greatest width
INCHES_PER_S = 2.5
WINDOW_S, OVERLAP = 0.016, 0.75
RANGE_DB = 70.0

Speech = Callable[[str], tuple[np.ndarray, int]]  # by utterance: samples (N,), rate in Hz


def draw_utterance(u: Utterance, speech: np.ndarray, rate: int, path: Path | str) -> None:
    """Draw an utterance as PNG.

    Args:
        u: Its words and phones.
        speech: ``(N,)`` samples.
        rate: Samples per second.
        path: File to write.

    Raises:
        SetupError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise SetupError("drawing needs matplotlib", path, install(extra="plot")) from e
    length_s = len(speech) / rate
    width = min(max(INCHES[0], INCHES_PER_S * length_s), INCHES[1])
    figure = Figure(figsize=(width, 4), dpi=100, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[6, 1, 1])
    window = max(32, round(WINDOW_S * rate))
    power, frequencies, times = spectrum(speech, rate, window)
    panels[0].pcolormesh(times, frequencies / 1000, power, cmap="Greys", shading="nearest",
                         vmin=power.max() - RANGE_DB, rasterized=True)  # fmt: skip
    panels[0].set_ylabel("kHz")
    panels[0].set_title(u.name, fontsize=10, parse_math=False)
    _tier(panels[1], u.words, "words", 10)
    _tier(panels[2], u.phones, "phones", 8)
    for i in u.words:
        for time in (i.start_s, i.end_s):
            panels[0].axvline(time, color="tab:blue", lw=0.7)
    panels[2].set_xlim(0, length_s)
    panels[2].set_xlabel("s")
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png")


def spectrum(
    speech: np.ndarray, rate: int, window: int, step: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return power in dB ``(F, T)``, frequencies in Hz and times in s.

    Args:
        speech: ``(N,)`` samples.
        rate: Samples per second.
        window: Samples of a window.
        step: Samples from one window to the next; default: a quarter of the window.
    """
    step = step or max(1, round(window * (1 - OVERLAP)))
    padded = np.pad(speech, (0, max(0, window - len(speech))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::step]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    times = (np.arange(len(frames)) * step + window / 2) / rate
    return 10 * np.log10(spectrum.T + 1e-10), np.fft.rfftfreq(window, 1 / rate), times


def _tier(ax: "Axes", intervals: Iterable[Interval], name: str, size: int) -> None:
    for i in intervals:
        ax.axvspan(i.start_s, i.end_s, facecolor=_colour(i), edgecolor="black", lw=0.7)
        middle = (i.start_s + i.end_s) / 2
        label = i.name if i.score is None else f"{i.name}\n{i.score:.2f}"
        ax.text(middle, 0.5, label, ha="center", va="center", fontsize=size, clip_on=True,
                parse_math=False)  # fmt: skip
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    ax.set_ylabel(name)


def _colour(i: Interval) -> str:
    """Return white to red as the confidence falls."""
    if i.score is None:
        return "white"
    rest = round(255 * max(0.0, min(1.0, i.score)))
    return f"#ff{rest:02x}{rest:02x}"


def speech_of(data: Path, base: Path = Path()) -> Speech:
    """Return a function that reads the audio of an utterance of a data folder.

    Args:
        data: The folder, with ``wav.scp`` and maybe ``segments``.
        base: Folder from which relative paths in ``wav.scp`` are meant.
    """
    recordings = read_table(data / "wav.scp")
    table = data / "segments"
    segments = read_segments(table) if table.is_file() else {}

    def read(utt: str) -> tuple[np.ndarray, int]:
        recording, start, end = segments.get(utt, (utt, 0.0, np.inf))
        if recording not in recordings:
            raise DataError(f"'{recording}' has no audio", data / "wav.scp")
        times = (start, None if np.isinf(end) else end)
        path = recordings[recording]
        path = path if is_pipe(path) else base / path
        try:
            return audio.read(path, *times)
        except ContentError:  # channels that cancel: one of them
            return audio.read(path, *times, channel=0)

    return read


def worst(source: Source, count: int) -> list[str]:
    """Return the utterances that most need a look.

    Those with the least probable words, or where one is most probably missing; without confidences,
    with the worst log-likelihood per frame; without these, the first ones.
    """
    rank, places = {}, _places(source)
    for utt in source.utts:
        items = [*source.utterances[utt].words, *places.get(utt, [])]
        rank[utt] = min((i.score for i in items if i.score is not None), default=1.0)
    if source.directory and min(rank.values(), default=1.0) == 1.0:
        rank = {u: s.loglik_per_frame for u, s in source.directory.scores.items()}
    return sorted(rank, key=lambda u: rank[u])[:count]


def _places(source: Source) -> dict[str, list[Interval]]:
    return check.missing(source.directory) if source.directory else {}


def write_page(source: Source, utts: Iterable[str], speech: Speech, out: Path) -> list[str]:
    """Draw utterances, and a page that shows them in this order.

    Returns:
        Those that could not be drawn, and why.

    Raises:
        SetupError: matplotlib is not installed.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows, failed, places = [], [], _places(source)
    for utt in utts:
        name = file_name(utt, PICTURE)
        try:
            u = source.utterances[utt]
            draw_utterance(u, *speech(utt), out / name)
        except DataError as e:
            failed.append(f"{utt}: {e.what}")
            continue
        words = " ".join(
            f'<span style="background:{_colour(i)}">{html.escape(i.name)}</span>' for i in u.words
        )
        lacks = "".join(f"<br>{html.escape(check.told(i))}" for i in places.get(utt, []))
        image = html.escape(quote(name), quote=True)
        rows.append(f'<h2>{html.escape(utt)}</h2>\n<p>{words}{lacks}</p>\n<img src="{image}">\n')
    head = '<!DOCTYPE html>\n<meta charset="utf-8">\n<title>Alignment</title>\n'
    about = (
        "<p>Words in red were perhaps not spoken; the number is the confidence in a word, or in "
    )
    about += "that no word is missing at a place.</p>\n"
    write_text(out / PAGE, head + about + "".join(rows))
    return failed


def main_plot(argv: list[str]) -> int:
    """Run ``espnet-ext align plot ALIGNMENT OUT --data DATA``; return the exit code."""
    p = argparse.ArgumentParser(
        prog="espnet-ext align plot",
        description="Draw utterances: spectrogram, words with their confidence, phones; and a page "
        f"of them, {PAGE}. Default: the {WORST} that most need a look.",
        allow_abbrev=False,
    )
    p.add_argument("alignment", type=Path, help="OUT of 'align train' or 'apply', or any alignment")
    p.add_argument("out", type=Path, help="folder to write")
    p.add_argument("--data", type=Path, help="data folder with the audio (default: that of OUT)")
    p.add_argument("--utts", nargs="+", metavar="UTT", help="these utterances")
    p.add_argument("--worst", type=int, default=WORST, metavar="N", help="(default: %(default)s)")
    a = p.parse_args(argv)
    inner = a.alignment / "alignment"
    source = open_alignment(inner if (inner / "header.json").is_file() else a.alignment)
    data = a.data or a.alignment / "work/data"
    if not (data / "wav.scp").is_file():
        raise UsageError("where is the audio?", "--data", "give the folder that has wav.scp")
    if missing := [u for u in a.utts or () if u not in source.utterances]:
        raise DataError(f"there is no utterance '{missing[0]}'", a.alignment)
    utts = a.utts or worst(source, a.worst)
    failed = write_page(source, utts, speech_of(data), a.out)
    for line in failed:
        print(f"not drawn: {line}")
    print(f"{len(utts) - len(failed)} pictures: {a.out / PAGE}")
    return 0 if len(failed) < len(utts) else 3
