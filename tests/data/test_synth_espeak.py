# SPDX-License-Identifier: Apache-2.0
import ctypes
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.data.synth.espeak import Espeak, _unload
from espnet_ext.data.synth.events import EVENT_END, SILENCE, Mark, marks_to_segments
from espnet_ext.errors import SetupError, UsageError
from espnet_ext.installation import install

loader = pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def espeak():
    return Espeak()


def assert_tiles(phones, duration_s):
    assert phones[0].start_s == 0.0
    assert phones[-1].end_s == duration_s
    assert all(p.start_s < p.end_s for p in phones)
    assert all(a.end_s == b.start_s for a, b in pairwise(phones))


def assert_words_span_their_phones(words, phones):
    assert all(a.end_s <= b.start_s for a, b in pairwise(words))
    for phone in phones:
        if phone.label != SILENCE:
            inside = [w for w in words if w.start_s <= phone.start_s and phone.end_s <= w.end_s]
            assert len(inside) == 1, phone
    assert {w.start_s for w in words} <= {p.start_s for p in phones}
    assert {w.end_s for w in words} <= {p.end_s for p in phones}


@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("en-us+m1", "turn on the lights in the kitchen of the house"),
        ("en+f1", "hello there, what is it"),
        ("fr+m3", "je voudrais deux chambres pour les enfants à lyon"),
        ("it", "vorrei prenotare una camera per lunedì"),
        ("ar", "أريد حجز غرفة في المدينة"),
    ],
)
def test_phones_tile_the_audio_and_words_span_their_phones(espeak, voice, text):
    u = espeak.synthesize(text, voice=voice)
    assert u.samples.dtype == np.int16 and u.samples.ndim == 1
    assert_tiles(u.phones, len(u.samples) / u.rate_hz)
    assert_words_span_their_phones(u.words, u.phones)
    assert [w.label for w in u.words] == text.split()
    assert len({p.label for p in u.phones}) > 8


def test_words_that_espeak_looks_up_together_are_still_told_apart(espeak):
    u = espeak.synthesize("what is in the room of the house", voice="en-us")
    the = [w for w in u.words if w.label == "the"]
    assert len(the) == 2
    for word in the:
        inside = [p.label for p in u.phones if word.start_s <= p.start_s < word.end_s]
        assert inside == ["ð", "ə"]


def test_pause_at_a_comma_is_silence_between_words(espeak):
    u = espeak.synthesize("hello, there", voice="en-us")
    (pause,) = [p for p in u.phones[1:-1] if p.label == SILENCE]
    assert u.words[0].end_s == pause.start_s and pause.end_s == u.words[1].start_s


def test_phone_times_fit_the_sound(espeak):
    u = espeak.synthesize("the seven horses saw six seas", voice="en-us+m3")

    def high_share(phone):
        """Energy above 3.5 kHz over all energy, in the middle half of the phone."""
        quarter = (phone.end_s - phone.start_s) / 4
        a, b = ((int(t * u.rate_hz)) for t in (phone.start_s + quarter, phone.end_s - quarter))
        power = np.abs(np.fft.rfft(u.samples[a:b] / 32768.0)) ** 2
        return power[np.fft.rfftfreq(b - a, 1 / u.rate_hz) > 3500].sum() / power.sum()

    hissing = [high_share(p) for p in u.phones if p.label == "s"]
    vowels = [high_share(p) for p in u.phones if p.label in {"ɛ", "ɔ", "ɔː", "ɔːɹ", "iː", "ɪ"}]
    assert len(hissing) >= 4 and len(vowels) >= 4
    assert min(hissing) > 3 * max(vowels)


def test_equal_calls_give_equal_samples_whatever_came_between(espeak):
    def speak():
        return Espeak().synthesize("what is the weather in paris", voice="en-us+f5", pitch=60)

    first = speak()
    espeak.synthesize("deux chambres", voice="fr+m2", rate_wpm=220)
    again = speak()
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.phones == again.phones


def test_voice_rate_and_pitch_change_the_sound(espeak):
    usual = espeak.synthesize("set an alarm", rate_wpm=150)
    assert len(espeak.synthesize("set an alarm", rate_wpm=250).samples) < len(usual.samples)
    for other in ({"pitch": 80}, {"pitch_range": 90}, {"voice": "en-us+f4"}):
        u = espeak.synthesize("set an alarm", **{"rate_wpm": 150, **other})
        assert not np.array_equal(u.samples, usual.samples)


@settings(max_examples=60, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=30),
        st.text(alphabet="aé1 ,.?!'-[]<>&%\n\t\0،ئ🙂\ud800\u200b", max_size=30),
    ),
    voice=st.sampled_from(["en-us", "fr", "it", "ar"]),
)
def test_any_text_can_be_spoken(text, voice):
    u = Espeak().synthesize(text, voice=voice)
    if len(u.samples):
        assert_tiles(u.phones, len(u.samples) / u.rate_hz)
    assert_words_span_their_phones(u.words, u.phones)


@given(
    starts=st.lists(st.integers(0, 3000), max_size=12),
    labels=st.lists(st.sampled_from(["a", "ˈb", "", "(en)"]), min_size=12, max_size=12),
    positions=st.lists(st.integers(-1, 12), min_size=12, max_size=12),
    n_samples=st.integers(1, 2500),
)
def test_any_events_tile(starts, labels, positions, n_samples):
    marks = [
        Mark(s, p, label)
        for s, p, label in zip(sorted(starts), sorted(positions), labels, strict=False)
    ]
    phones, words = marks_to_segments("ab cd  efg", marks, n_samples, 1)
    assert_tiles(phones, n_samples)
    assert_words_span_their_phones(words, phones)
    assert {p.label for p in phones} <= {"a", "b", SILENCE}


def test_unlabelled_sound_prolongs_its_phone_and_a_pause_does_not():
    marks = [Mark(10, 0, "p"), Mark(20, 0, ""), Mark(30, 0, "r"), Mark(40, 3, "")]
    marks.append(Mark(50, 2, "", EVENT_END))
    phones, words = marks_to_segments("pr", marks, 50, 1)
    assert [(p.label, p.start_s, p.end_s) for p in phones] == [
        (SILENCE, 0, 10),
        ("p", 10, 30),
        ("r", 30, 40),
        (SILENCE, 40, 50),
    ]
    assert [(w.label, w.start_s, w.end_s) for w in words] == [("pr", 10, 40)]


@pytest.mark.parametrize(
    "wrong", [{"voice": "xx-nobody"}, {"voice": "a\0b"}, {"rate_wpm": 5}, {"pitch": 101}]
)
def test_wrong_arguments_are_usage_errors(espeak, wrong):
    with pytest.raises(UsageError):
        espeak.synthesize("hello", **wrong)
    assert espeak.synthesize("hello").words  # an error leaves nothing behind


def test_missing_wheel_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SetupError, match=re.escape(install(extra="synth"))):
        Espeak()


def test_library_held_by_another_package_is_refused(espeak):
    other = ctypes.CDLL(loader.get_library_path())
    try:
        with pytest.raises(SetupError, match="another package"):
            espeak.synthesize("hello")
    finally:
        _unload(other)
    assert espeak.synthesize("hello").words


def test_long_and_missing_data_paths(espeak, monkeypatch, tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(loader.get_data_path())
    monkeypatch.setattr(loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    np.testing.assert_array_equal(
        Espeak().synthesize("hello").samples, espeak.synthesize("hello").samples
    )
    monkeypatch.setattr(loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(SetupError, match="data of espeak-ng is missing"):
        Espeak()
