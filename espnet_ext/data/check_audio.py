# SPDX-License-Identifier: Apache-2.0
"""The audio of a data directory: headers of all files, and what is in the samples."""

from collections import Counter
from collections.abc import Callable

from espnet_ext.data import audio as audio_io
from espnet_ext.data import content
from espnet_ext.data.pipes import is_pipe, missing_program
from espnet_ext.data.rows import Table
from espnet_ext.errors import EspnetExtError

SHORTEST_S = 0.1  # what format keeps for training by default, and most encoders need
CONTENT_S = 8 * 3600.0  # audio that is read where not all of it is asked for: half a minute
MODES = ("none", "header", "content", "full")


class AudioCheck:
    """Checks wav.scp.

    Args:
        add: ``add(level, line, key, what, how)`` takes a finding.
        mode: ``header`` opens each file and tries its last sample; ``content`` also reads up to
            :data:`CONTENT_S` seconds, files of floating-point numbers first; ``full`` reads all;
            ``none`` does not touch audio.
        allow_pipes: Accept commands; they are not run here.
        channel: Channel that will be used, counted from 0; None: the average of all.

    Attributes:
        durations: Seconds of each file that could be opened, by key.
    """

    def __init__(
        self, add: Callable[..., None], mode: str, allow_pipes: bool, channel: int | None = None
    ):
        self.add, self.mode, self.pipes, self.channel = add, mode, allow_pipes, channel
        self.durations: dict[str, float] = {}
        self._floats: list[str] = []
        self._odd: dict[str, list] = {}  # what -> [line, key, how many]

    def run(self, table: Table | None, segmented: bool) -> None:
        """Check each entry of wav.scp; with ``segmented`` they are recordings."""
        rates: Counter[int] = Counter()
        for key in table.lines if table else ():
            entry, line = str(table.values[key]), table.lines[key]
            try:
                if entry and is_pipe(entry):
                    self._pipe(entry, key, line)
                elif entry and self.mode != "none":
                    got = self._header(key, entry)
                    rates[got.rate] += 1
                    if got.duration_s < SHORTEST_S and not segmented:
                        what = f"the audio lasts {got.duration_s * 1000:.1f} ms"
                        how = "format drops it from training; elsewhere it may have no hypothesis"
                        self.add("warning", line, key, what, how)
            except EspnetExtError as e:
                self.add("error", line, key, f"{e.what}: {e.where}", e.how or "")
        if len(rates) > 1:
            counts = ", ".join(f"{rate} Hz: {n}" for rate, n in sorted(rates.items()))
            what = f"the sampling rates are mixed ({counts})"
            self.add("warning", None, None, what, "format resamples to one rate")
        if table and self.mode in ("content", "full"):
            self._contents(table)

    def _pipe(self, entry: str, key: str, line: int) -> None:
        if not self.pipes:
            what, how = "is a command, not a file", "convert the audio, or allow pipes"
            self.add("error", line, key, what, how)
        elif program := missing_program(entry):
            what, how = f"'{program}' is not installed", f"install {program} or convert the audio"
            self.add("error", line, key, what, how)

    def _header(self, key: str, entry: str) -> audio_io.AudioInfo:
        got = audio_io.info(entry)
        self.durations[key] = got.duration_s
        if got.subtype in ("FLOAT", "DOUBLE"):
            self._floats.append(key)
        return got

    def _contents(self, table: Table) -> None:
        chosen = self._chosen()
        for key in chosen:
            self._content(key, str(table.values[key]), table.lines[key])
        for what, (line, key, count) in self._odd.items():
            more = f" (and {count - 1} more files)" if count > 1 else ""
            how = content.HOW[content.CANCEL] if "channels" in what else "listen to it"
            self.add("warning", line, key, what + more, how)
        if left := len(self.durations) - len(chosen):
            what = f"the samples of {left} of {len(self.durations)} files were not read"
            self.add("warning", None, None, what, "doctor --full reads all of them; format does")

    def _chosen(self) -> list[str]:
        total_s = sum(self.durations.values())
        if self.mode == "full" or total_s <= CONTENT_S:
            return list(self.durations)
        first, budget_s = dict.fromkeys(self._floats), CONTENT_S
        others = [key for key in self.durations if key not in first]
        order = [*first, *others[:: int(total_s / CONTENT_S) + 1]]
        chosen = []
        for key in order:
            budget_s -= self.durations[key]
            if budget_s >= 0:
                chosen.append(key)
        return chosen

    def _content(self, key: str, entry: str, line: int) -> None:
        try:
            with audio_io.open_audio(entry) as f:
                found = audio_io.check_frames(f, 0, f.frames, entry, self.channel)
        except EspnetExtError as e:
            self.add("error", line, key, f"{e.what}: {e.where}", e.how or "")
            return
        if fault := found.fault():
            level = "error" if fault.reason in content.BROKEN else "warning"
            self.add(level, line, key, f"{fault.reason}: {fault.detail}: {entry}", fault.how)
            return
        for what, there in (
            ("is clipped (more than 1 % of the samples)", found.clipped > content.CLIPPED_SHARE),
            ("has channels that differ, and they are averaged", found.unequal),
        ):
            if there:
                self._odd.setdefault(what, [line, key, 0])[2] += 1
