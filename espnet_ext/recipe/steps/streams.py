# SPDX-License-Identifier: Apache-2.0
"""Which streams a set has: files of ``data/<set>`` and their types, from recipe.yaml."""

from pathlib import Path

from espnet_ext.data.streams import AUDIO, BY_US, BY_VALUE, OWN_READER, USUAL, find_stream
from espnet_ext.recipe.schema import Stream
from espnet_ext.recipe.stages import Context

DATA, DUMP = Path("data"), Path("dump")


def streams_of(ctx: Context, name: str) -> dict[str, str]:
    """Return ``{file: type}`` of set ``name``: audio or what is there in its place comes first.

    Streams in folders (``align/targets.scp``) are made by later stages. Sets that no training reads
    may lack a further stream, unless ``data.files`` names its file: all sets have that, whichever
    of them a phase reads. What another experiment, with a phase that is off here, has formatted
    stays: else each of them would have it formatted again. Audio may stay in shards where every
    training that reads it asks for that (``type: shar``); test sets are read by stock ESPnet.
    """
    files = ctx.recipe.data.files
    found = {file: kind for file, kind in USUAL.items() if file in files}
    streams = _streams(ctx, name)
    kinds = {s.type for _, s in streams if s.file == AUDIO}
    if AUDIO in found and len(kinds) == 1 and name not in ctx.recipe.data.test:
        found[AUDIO] = kinds.pop()
    for needed, stream in streams:
        if "/" in stream.file or stream.file in USUAL:
            continue
        if needed or stream.file in files or (DATA / name / stream.file).exists():
            found[stream.file] = stream.type
    return dict(sorted(found.items(), key=lambda row: (row[0] != AUDIO, row[0] == "text")))


def streams_here(folder: Path) -> dict[str, str]:
    """Return the streams of ``data/<set>`` by the recipe.yaml of the current folder, if any."""
    from espnet_ext.recipe import config
    from espnet_ext.recipe.options import Options

    if not Path("recipe.yaml").is_file() or folder.resolve().parent != DATA.resolve():
        return {}
    return streams_of(Context(config.load(Path("recipe.yaml")), Options()), folder.name)


def main_file(ctx: Context, name: str) -> str:
    """Return the table that every formatted set has: wav.scp, or that of its first stream."""
    return next(iter(streams_of(ctx, name)), AUDIO)


def loader(kind: str) -> str:
    """Return the type that ESPnet's data options get; types that only ESPnet has stay theirs."""
    if kind in BY_VALUE:
        return "text"
    if kind in BY_US:
        return f"{OWN_READER}{kind}"
    if ":" not in kind:  # our own have ESPnet's names; importing them would take half a second
        return kind
    return find_stream(kind).loader or f"{OWN_READER}{kind}"


def _streams(ctx: Context, name: str) -> list[tuple[bool, Stream]]:
    """Return the streams of all phases, and whether a training reads those of set ``name``."""
    out, data = [], ctx.recipe.data
    listed = set(data.files) - USUAL.keys()
    for phase in ctx.recipe.phases.values():
        here = name in (phase.train or data.train, phase.valid or data.valid)
        out += [(here, s) for s in phase.streams if here or name in data.test or s.file in listed]
        out += [(True, s) for e in phase.extra_data.values() if e.set == name for s in e.streams]
    for phase in ctx.recipe.left_out:
        if name in (phase.train or data.train, phase.valid or data.valid):
            out += [(False, s) for s in phase.streams if (DUMP / name / s.file).exists()]
    return out
