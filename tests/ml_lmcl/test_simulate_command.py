# SPDX-License-Identifier: Apache-2.0
"""espnet-ext simulate-asr: what it writes and says, and misuse."""

import json
from pathlib import Path

import pytest

from espnet_ext import cli
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.ml_lmcl.simulate.generate import measure

SENTENCE = "show me all flights from boston to denver on monday"
WORDS = SENTENCE.split()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manual = {f"u{i:03d}": " ".join(WORDS[i % 3 :]) for i in range(60)}
    asr = {u: t.replace("boston", "austin") if int(u[1:]) % 2 else t for u, t in manual.items()}
    asr = {u: t.replace(" on", "") if int(u[1:]) % 5 == 0 else t for u, t in asr.items()}
    lexicon = "".join(f"{w} {' '.join(w.upper())}\n" for w in [*WORDS, "austin"])
    (tmp_path / "lexicon.txt").write_text(lexicon)
    write_table("manual", manual | {"empty": ""})
    write_table("asr", asr | {"empty": ""})
    return manual | {"empty": ""}


def run(*argv):
    return cli.main(["simulate-asr", *argv])


def test_estimate_and_confuse(data, capfd):
    assert run("estimate", "manual", "asr", "m.json", "--lexicon", "lexicon.txt") == 0
    said = capfd.readouterr().out
    assert "61 sentences (1 empty), 540 words" in said and "phones: lexicon; 11 words" in said
    assert run("confuse", "m.json", "manual", "out", "--wer", "8", "--seed", "3") == 0
    said = capfd.readouterr().out
    texts = read_table("out")
    score = measure(data, texts)
    assert texts["empty"] == "" and score.rate == pytest.approx(8.0, abs=0.5)
    n = score.totals()
    assert "target WER 8 %" in said and "0 words are not in the model" in said
    assert f"WER {n['rate']:.2f} % (S {n['sub']}, D {n['del']}, I {n['ins']} of 540 words)" in said
    assert run("confuse", "m.json", "manual", "again", "--wer", "8", "--seed", "3") == 0
    assert read_table("again") == texts


def test_real_and_simulated_text_are_compared_at_the_same_rate(data, capfd):
    run("estimate", "manual", "asr", "m.json", "--lexicon", "lexicon.txt")
    found = json.loads(Path("m.json").read_text())["realism"]
    real = measure(data, read_table("asr"))
    exact = 100 * float((real.errors == 0).mean())
    assert found["wer"] == pytest.approx([real.rate, real.rate], abs=0.3)
    assert found["exact"][0] == pytest.approx(exact, abs=0.01) and 0 < found["exact"][1] < 100
    line = f"{exact:.1f} against {found['exact'][1]:.1f} % of the sentences without error"
    assert line in capfd.readouterr().out
    run("confuse", "m.json", "manual", "out", "--wer", "8")
    assert line in capfd.readouterr().out
    old = json.loads(Path("m.json").read_text())
    del old["realism"]  # as earlier releases wrote it
    Path("old.json").write_text(json.dumps(old))
    assert run("confuse", "old.json", "manual", "again", "--wer", "8") == 0
    assert "against" not in capfd.readouterr().out
    assert read_table("again") == read_table("out")


def test_normalised_text(data, capfd):
    loud = {u: t.upper().replace("BOSTON", "BOSTON ,") for u, t in data.items()}
    write_table("loud", loud)
    argv = ["loud", "asr", "m.json", "--normalize", "words", "--lexicon", "lexicon.txt"]
    assert run("estimate", *argv) == 0
    assert run("confuse", "m.json", "loud", "out", "--wer", "5") == 0
    assert "540 words" in capfd.readouterr().out
    assert measure(data, read_table("out")).rate == pytest.approx(5.0, abs=0.5)


def test_misuse(data, capfd):
    run("estimate", "manual", "asr", "m.json", "--lexicon", "lexicon.txt")
    write_table("short", {"u001": "x"})
    write_table("none", {})
    Path("broken").write_text("u1 a\n b\n")
    Path("other.json").write_text("{}")
    capfd.readouterr()
    cases = [
        ([], 2, "usage: espnet-ext simulate-asr"),
        (["--help"], 0, "confuse MODEL.json TEXT OUT"),
        (["estimat"], 2, "did you mean 'estimate'?"),
        (["confuse", "m.json", "manual", "out", "--wr", "3"], 2, "did you mean '--wer'?"),
        (["confuse", "m.json", "manual", "manual"], 2, "OUT is one of the inputs"),
        (["confuse", "m.json", "manual", "."], 2, "OUT is a folder"),
        (["confuse", "m.json", "manual", "out", "--wer", "500"], 2, "reach 0 to "),
        (["confuse", "m.json", "nowhere", "out"], 3, "nowhere is missing"),
        (["confuse", "m.json", "none", "out"], 3, "the table is empty"),
        (["confuse", "m.json", "broken", "out"], 3, "broken:2"),
        (["confuse", "other.json", "manual", "out"], 3, "no confusion model"),
        (["estimate", "manual", "short", "x.json"], 3, "60 of 61 utterances have no ASR"),
        (["estimate", "short", "manual", "x.json"], 3, "have no manual transcript"),
        (["estimate", "manual", "asr", "x.json", "--lexicon", "no.txt"], 3, "lexicon is missing"),
        (["speak", "manual", "out", "--asr-config", "c", "--asr-model", "m"], 3, "no such file"),
    ]
    for argv, code, says in cases:
        assert run(*argv) == code, argv
        said = "".join(capfd.readouterr())
        assert says in said and "Traceback" not in said, (argv, said)
    with pytest.raises(SystemExit):
        run("speak", "manual", "out")
    assert not {"out", "x.json"} & {p.name for p in Path().iterdir()}


def test_speak(data, capfd, monkeypatch):
    pytest.importorskip("espeakng_loader")
    from espnet_ext.espnet import recognise

    class Deaf:
        fs = 8000

        def __call__(self, speech):
            assert all(1000 < len(x) < 60000 for x in speech)
            return [[("show me", None)] for _ in speech]

    monkeypatch.setattr(recognise, "load_recogniser", lambda *args, **options: Deaf())
    write_table("few", {u: data[u] for u in ("u000", "u001", "empty")} | {"dash": "--"})
    for name in ("c.yaml", "m.pth"):
        Path(name).touch()
    argv = ["few", "out", "--asr-config", "c.yaml", "--asr-model", "m.pth", "--keep-audio", "wav"]
    assert run("speak", *argv, "--snr-db", "0", "5") == 0
    assert read_table("out") == {"u000": "show me", "u001": "show me", "empty": "", "dash": ""}
    said = capfd.readouterr().out
    assert "2 utterances make no sound" in said and "4 sentences (1 empty), 20 words" in said
    assert "recognised: WER 90.00 %" in said
    assert read_table("wav/wav.scp").keys() == {"u000", "u001"}
    assert run("speak", *argv, "--snr-db", "9", "5") == 2
