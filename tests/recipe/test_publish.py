# SPDX-License-Identifier: Apache-2.0
"""publish: the folder, its card, what is refused, and what is uploaded; nothing needs a network."""

import json
import socket
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml

from espnet_ext import cli
from espnet_ext.recipe import records
from espnet_ext.recipe.publish.experiment import PACK
from espnet_ext.recipe.steps import pack
from espnet_ext.recipe.steps.record import base_record, write_record
from espnet_ext.recipe.steps.score import scored_sets
from espnet_ext.scoring.metrics import find
from espnet_ext.scoring.record import load_record
from espnet_ext.scoring.significance import interval, resample

TEXTS = {"u1": "a b c", "u2": "a b", "u3": "c c a b"}
HEARD = {"s1": {"u1": "a b c", "u2": "a c", "u3": "c c a b"},
         "s2": {"u1": "a c", "u2": "a b", "u3": "c a a b"}}  # fmt: skip
YES = ("--licence", "cc-by-4.0")


@pytest.fixture
def experiment(folder, monkeypatch):
    """Experiments s1 and s2 of group g, as stages 7 to 10 leave them, by a model of one tensor."""
    monkeypatch.setattr(pack, "check", lambda plan, packed: None)  # tests/recipes loads a real one
    corpus = {"name": "Toy", "licence": "research only", "source": "a shop", "language": "fr, it"}
    phase = {"task": "asr", "config": "conf/train.yaml", "model": "m.pth"}
    rest = {"tokens": {"type": "char"}, "decode": {}, "score": {}, "pack": {}}
    folder.recipe(title="A toy | small", corpus=corpus, finetune=phase, **rest)
    folder.write("conf/train.yaml", "encoder: transformer\n")
    table(folder, "data/test/text", TEXTS)
    for seed, name in enumerate(HEARD, 1):
        finished(folder, name, seed)
    return folder


def table(folder, name, texts):
    folder.write(name, "".join(f"{u} {t}\n" for u, t in texts.items()))


def finished(folder, name, seed):
    argv = ["--name", name, "--group", "g", "--seed", str(seed)]
    ctx = context(folder, argv)
    exp = f"exp/{name}"
    Path(f"exp/{name}").mkdir(parents=True)
    folder.write(f"../../../scratch/{name}/stats.npz", "")  # on another disk, as links may lead to
    stats = f"exp/{name}/stats"
    Path(stats).symlink_to(folder.path.parents[2] / "scratch" / name)
    config = {
        "token_list": ["<blank>", "/", "/a/b"],
        "normalize_conf": {"stats_file": f"{stats}/stats.npz"},
        "train_data": [f"{folder.path}/dump/train/wav.scp", "/corpora/secret/text"],
        "seed": seed,
    }
    folder.write(f"{exp}/finetune/config.yaml", yaml.safe_dump(config))
    torch.save({"encoder.w": torch.ones(2)}, f"{exp}/finetune/m.pth")
    cost = {"task": "asr", "train_wall_s": 61.0, "peak_rss_mb": 900, "peak_gpu_mb": 0, "epochs": 3,
            "params": 1234567, "params_trained": 1000, "updates": 321}  # fmt: skip
    for file, value in (("phase", cost), ("commits", ["0" * 40]), ("identity", {"seed": seed})):
        folder.write(f"{exp}/finetune/{file}.json", json.dumps(value))
    for name_of_set in ("test",):
        table(folder, f"{exp}/decode/greedy_ctc/{name_of_set}/text", HEARD[name])
        cost = {"wall_s": 1.0, "audio_s": 3.0, "rtf": 0.3}
        folder.write(f"{exp}/decode/greedy_ctc/{name_of_set}/decode.json", json.dumps(cost))
    Path("results").mkdir(exist_ok=True)
    write_record(ctx, {**base_record(ctx), "sets": scored_sets(ctx)})
    packed(ctx)


def context(folder, argv):
    from espnet_ext.recipe import options
    from espnet_ext.recipe.config import load
    from espnet_ext.recipe.stages import Context

    keys = {"name", "group", "seed", "decode"}
    argv = [*argv, "--decode.sets=[test]"]
    opts = options.parse(argv, keys)
    return Context(load(Path("recipe.yaml"), opts.overrides), opts)


def packed(ctx):
    plan = PACK.code(ctx.recipe).plan(ctx)
    PACK.code(ctx.recipe).run(ctx, plan)
    records.write(ctx, PACK, plan, records.current(plan), 1.0)


def publish(*argv, code=0, capfd=None):
    assert cli.main(["publish", *argv]) == code
    return "".join(capfd.readouterr()) if capfd else ""


def test_the_card_says_what_the_record_says(experiment, capfd):
    told = publish("s1", *YES, "--language", "en", capfd=capfd)
    out = experiment.path / "exp/s1/hub"
    assert f"{out}: ready" in told
    card, own = huggingface_hub.ModelCard.load(out / "README.md"), load_record("results/s1.json")
    data = card.data.to_dict()
    assert (data["license"], data["language"]) == ("cc-by-4.0", ["en"])
    results = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    wer = find("wer")
    scored = own.sets["test"]["greedy_ctc"]
    assert results["test", "wer"] == round(scored.value(wer), 4)
    runs = [scored, load_record("results/s2.json").sets["test"]["greedy_ctc"]]
    counts = np.stack([d.counts(wer) for d in runs])
    (low, high), both = (interval(resample(c, wer.value)) for c in (counts[:1], counts))
    mean = np.mean([d.value(wer) for d in runs])
    row = f"| {scored.value(wer):.2f} | {low:.2f} to {high:.2f} | 2 | {mean:.2f} | {both[0]:.2f} to"
    assert row in card.text
    assert "1,234,567 | 1,000 | 3 | 321 | 1 min 01 s" in card.text
    for part in ("research only", "must not be used for", own.commit, own.command, "a shop"):
        assert part in card.text, part
    assert "# A toy \\| small" in card.text
    assert json.loads((out / "run_record.json").read_text()) == json.loads(
        Path("results/s1.json").read_text()
    )


def test_no_path_of_this_machine_is_published_and_files_from_elsewhere_are(experiment):
    publish("exp/s1", *YES, "--out", "made")
    out = experiment.path / "made"
    config = yaml.safe_load((out / "exp/s1/finetune/config.yaml").read_text())
    assert config["train_data"] == ["dump/train/wav.scp", "text"]
    assert config["token_list"] == ["<blank>", "/", "/a/b"]
    assert (out / config["normalize_conf"]["stats_file"]).is_file()
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert names == {
        ".gitattributes", "README.md", "meta.yaml", "run_record.json", "exp/s1/stats.npz",
        "exp/s1/finetune/config.yaml", "exp/s1/finetune/m.pth",
    }  # fmt: skip


def edit(path, change):
    Path(path).write_text(change(Path(path).read_text()))


def heard_nothing(path="exp/s1/decode/greedy_ctc/test/decode.json"):
    edit(path, lambda t: json.dumps({**json.loads(t), "doubt": "3 of 3 hypotheses are empty"}))


def terms(licence):
    edit("recipe.yaml", lambda text: text.replace("research only", licence))


REFUSED = {
    "no such experiment": (lambda: None, ["s3", *YES], "there is no such experiment"),
    "no scores": (lambda: Path("results/s1.json").unlink(), ["s1", *YES], "it has no scores"),
    "no model": (lambda: Path("exp/s1/finetune/m.pth").unlink(), ["s1", *YES], "is not trained"),
    "no archive": (lambda: next(Path("exp/s1").glob("*.zip")).unlink(), ["s1", *YES], "not packed"),
    "trained on": (lambda: torch.save({"w": torch.ones(3)}, "exp/s1/finetune/m.pth"),
                   ["s1", *YES], "archive is out of date"),
    "other scores": (lambda: edit("exp/s1/finetune/identity.json", lambda t: '{"seed": 9}'),
                     ["s1", *YES], "scores are of another training"),
    "recognises nothing": (heard_nothing, ["s1", *YES], "3 of 3 hypotheses are empty"),
    "no licence": (lambda: None, ["s1"], "the licence of the model is not given"),
    "no licence of the data": (lambda: terms("''"), ["s1", *YES], "--corpus-licence TEXT"),
    "placeholder": (lambda: terms("yours"), ["s1", *YES], "not known (yours)"),
    "a folder of others": (lambda: None, ["s1", *YES, "--out", "conf"], "holds something else"),
    "language": (lambda: None, ["s1", *YES, "--language", "English"], "no language code"),
    "name": (lambda: None, ["s1", *YES, "--push", "model"], "OWNER/NAME"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_published(experiment, case, capfd):
    change, argv, says = REFUSED[case]
    change()
    assert cli.main(["publish", *argv]) in (1, 2, 3)
    assert says in capfd.readouterr().err
    assert not Path("exp/s1/hub").exists() and Path("conf/train.yaml").is_file()


def test_experiments_that_are_there_are_named(experiment, capfd, tmp_path, monkeypatch):
    assert cli.main(["publish", "s3", *YES]) == 3
    assert "; there are: exp/s1" in capfd.readouterr().err
    monkeypatch.chdir(tmp_path)  # there are none
    assert cli.main(["publish", "s3", *YES]) == 3
    assert "in the folder of its recipe\n" in capfd.readouterr().err


def test_a_checkpoint_with_more_than_tensors_is_not_published(experiment, capfd):
    torch.save({"w": Path("x")}, "exp/s1/finetune/m.pth")
    packed(context(experiment, ["--name", "s1", "--group", "g", "--seed", "1"]))
    assert cli.main(["publish", "s1", *YES]) == 3
    assert "does not hold tensors alone" in capfd.readouterr().err
    assert not Path("exp/s1/hub").exists()


def test_push_uploads_just_the_folder(experiment, monkeypatch, capfd):
    calls = []

    class Api:
        def create_repo(self, repo, **options):
            calls.append((repo, options))

        def upload_folder(self, **options):
            files = sorted(p.name for p in Path(options["folder_path"]).rglob("*") if p.is_file())
            calls.append((options["repo_id"], options["folder_path"], files))
            return "the address"

    def no_network(*args, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    told = publish("s1", *YES, "--push", "me/toy", "--private", capfd=capfd)
    (repo, options), (again, path, files) = calls
    assert repo == again == "me/toy" and options["private"] and told.endswith("the address\n")
    assert path == str(experiment.path / "exp/s1/hub") and len(files) == 7
    card = Path(path, "README.md").read_text()
    assert 'from_pretrained("me/toy"' in card and card.startswith("---\nlanguage:\n- fr\n- it\n")
