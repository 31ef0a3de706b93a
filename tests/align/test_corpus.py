# SPDX-License-Identifier: Apache-2.0
"""What a corpus is made ready with: unknown words, what monophones start from."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align import corpus as module
from espnet_ext.align.corpus import Corpus, cut, prepare
from espnet_ext.align.options import AlignOptions
from espnet_ext.data.tables import read_table, write_table


def test_utterances_with_unknown_words_are_kept_and_counted(few, spoken, tmp_path):
    data = few(4)
    texts = read_table(data / "text")
    first, second, *_ = texts
    write_table(data / "text", texts | {first: "turn xylophone on", second: "xylophone φως"})
    o, lines = AlignOptions(lexicon=str(spoken / "lexicon.txt")), []
    corpus = prepare(data, tmp_path / "work", o, map, lines.append)
    assert corpus.utterances == 4 and not corpus.skipped and corpus.with_spoken_noise() == 2
    said = "\n".join(lines)
    assert "2 words are not in the lexicon, aligned as spoken noise: xylophone, φως" in said
    assert "2 utterances kept with words that are aligned as spoken noise" in said
    strict = AlignOptions(lexicon=str(spoken / "lexicon.txt"), oov="skip")
    corpus = prepare(data, tmp_path / "work", strict, map, lines.append)
    assert [(u, r) for u, r, _ in corpus.skipped] == [
        (first, "no pronunciation"), (second, "no pronunciation"),
    ]  # fmt: skip


def test_tabs_and_long_names_in_tables(few, spoken, tmp_path):
    data = few(3)
    new = dict(zip(read_table(data / "text"), ("ü" * 125, "b" * 250, "c"), strict=True))
    for name in ("wav.scp", "text", "utt2spk"):
        rows = {new[u]: v.replace(" ", "\t ") for u, v in read_table(data / name).items()}
        lines = sorted((f"{u}\t{v}\n" for u, v in rows.items()), key=str.encode)
        (data / name).write_text("".join(lines))
    o = AlignOptions(lexicon=str(spoken / "lexicon.txt"))
    corpus = prepare(data, tmp_path / "work", o, map, lambda line: None)
    assert corpus.utterances == 3 and not corpus.skipped and not corpus.with_spoken_noise()
    assert set(corpus.store.utts) == set(new.values())


@pytest.mark.parametrize(
    ("lengths", "utterances", "limit"),
    [
        ([10, 20, 30], 9, None),
        ([10, 20, 30], 2, 20),
        ([500, 600, 120_000], 9, None),  # the short ones are too little to start from
        ([500] * 200 + [120_000], 999, 500),
        ([5000, 6000, 7000], 9, 6000),
        ([120_000, 130_000], 9, None),
    ],
)
def test_monophones_start_from_shorter_utterances(monkeypatch, lengths, utterances, limit):
    corpus = Corpus("", 1, sum(lengths), len(lengths), "", [])
    monkeypatch.setattr(module, "load_shard", lambda work, i: {"utts": range(len(lengths))})
    store = SimpleNamespace(frames=lengths.__getitem__)
    monkeypatch.setattr(Corpus, "store", store)
    assert corpus.start_frames(utterances) == limit


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 50)), min_size=1, max_size=40),
    st.integers(1, 8),
)
def test_only_a_speaker_who_fills_a_shard_alone_is_cut(rows, count):
    """Transforms of a speaker are estimated in a shard: two halves would have two, or one none."""
    speakers = {f"{s}{i:02d}": s for i, (s, _) in enumerate(rows)}
    frames = {f"{s}{i:02d}": n for i, (s, n) in enumerate(rows)}
    order = sorted(frames)
    shards = cut(order, frames, speakers, count)
    assert [u for shard in shards for u in shard] == order
    assert all(shards) and len(shards) <= count
    target = sum(frames.values()) / count
    for speaker in set(speakers.values()):
        parts = [[frames[u] for u in s if speakers[u] == speaker] for s in shards]
        parts = [sum(p) for p in parts if p]
        assert len(parts) == 1 or all(p >= target for p in parts[:-1])
