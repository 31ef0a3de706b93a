# SPDX-License-Identifier: Apache-2.0
"""Training through ESPnet's trainer: checks before it, labels from elsewhere, resume, processes."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from children import train_in_two

from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402

from espnet_ext.espnet.verify import verify_stock  # noqa: E402
from espnet_ext.weak_align.bpe_labels import BpeLabeller  # noqa: E402
from espnet_ext.weak_align.task import WeakAlignTask  # noqa: E402

TASK = "espnet_ext.weak_align.task:WeakAlignTask"


def run(argv, out, *aux, epochs=1, more=()):
    options = [x for option in aux for x in ("--aux", option)]
    argv = [*argv, *options, *more, "--output_dir", str(out), "--max_epoch", str(epochs)]
    train.run(TASK, argv)
    return out


@pytest.fixture
def own(align_argv, tiny_alignment, tmp_path):
    """A copy of the alignment that a test may change, and the options that read it."""
    folder = tmp_path / "ali"
    shutil.copytree(tiny_alignment, folder)
    for scp in folder.rglob("*.scp"):
        scp.write_text(scp.read_text().replace(str(tiny_alignment), str(folder)))
    return folder, [x.replace(str(tiny_alignment), str(folder)) for x in align_argv]


@pytest.fixture(scope="module")
def alternating(align_argv, tmp_path_factory):
    out = tmp_path_factory.mktemp("alt") / "exp"
    return run(align_argv, out, "preset=alternating", "alternation.period=3", epochs=3)


def test_a_resumed_training_alternates_as_if_it_had_not_stopped(alternating, align_argv, tmp_path):
    aux = ("preset=alternating", "alternation.period=3")
    for epochs in (1, 3):
        run(align_argv, tmp_path / "exp", *aux, epochs=epochs)
    one, two = (checkpoint.load(p / "3epoch.pth") for p in (alternating, tmp_path / "exp"))
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    spent = json.loads((alternating / "spent.json").read_text())
    assert spent["1"]["updates"] % 3  # so that a period crosses the end of an epoch


@pytest.mark.parametrize("accum", [1, 2])
def test_the_model_is_told_epoch_and_update(align_argv, tmp_path, monkeypatch, accum):
    seen = []
    forward = WeakAlignTask.model_class.forward

    def noting(self, *args, **kwargs):
        if self.training:
            seen.append(self.training_progress)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(WeakAlignTask.model_class, "forward", noting)
    run(align_argv, tmp_path / "exp", epochs=2, more=["--accum_grad", str(accum)])
    batches = len(seen) // 2
    updates = batches // accum
    assert batches > accum
    assert seen == [(e, (e - 1) * updates + i // accum) for e in (1, 2) for i in range(batches)]


def test_config_yaml_is_complete_and_stock_espnet_loads_the_model(alternating):
    config, model_file = alternating / "config.yaml", alternating / "valid.acc.ave.pth"
    saved = yaml.safe_load(config.read_text())
    facts = saved["aux"]["resolved"]
    assert [x["layer"] for x in facts["losses"]] == [2, "output"]
    assert facts["source_train_data"] == "tiny/train" and facts["classes"] == {"tri": 7, "bpe": 7}
    assert saved["model"] == "espnet" or "model" not in saved
    verdict = verify_stock(config, model_file)
    assert verdict.extra and all(n.startswith("aux_heads.") for n in verdict.extra)
    facts["labels"] = "/nowhere/header.json"
    saved["train_data_path_and_name_and_type"] = [["/nowhere/x.scp", "align", "kaldi_ark"]]
    moved = alternating / "moved.yaml"
    moved.write_text(yaml.safe_dump(saved))
    ours, _ = WeakAlignTask.build_model_from_file(moved, model_file)
    stock, _ = StockASRTask.build_model_from_file(moved, model_file)
    speech = torch.randn(1, 9000), torch.tensor([9000])
    assert torch.equal(ours.eval().encode(*speech)[0], stock.eval().encode(*speech)[0])


def test_two_processes_alternate_and_train_one_model(align_argv, tmp_path):
    """DDP would stop at the second update if the idle head had no gradients."""
    argv = [*align_argv, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"]
    argv += ["--aux", "preset=alternating"]
    said = train_in_two(TASK, argv)
    assert said.count("train align: 11 of 12") == 1
    assert said.count("tri: after block 2 of 4, stride 4") == 1


REFUSED = [
    (["--specaug_conf", "apply_time_warp=true"], "apply_time_warp: false"),
    (["--preprocessor_conf", "data_aug_effects=[[0.5, speed_perturb, {factor: 0.9}]]",
      "--preprocessor_conf", "data_aug_prob=0.5"], "speed_perturb"),
    (["--aux", "layer=5"], "layers 1 to 4"),
    (["--aux", "preset=weak_try"], "weak_tri"),
    (["--aux", "label_source=shuffled", "--aux", "unit=phone"], "shuffled"),
    (["--encoder_conf", "ctc_trim=true"], "ctc_trim: false"),
    (["--model", "maskctc"], "model: espnet"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_settings_that_labels_cannot_follow_are_refused(align_argv, tmp_path, more, message):
    with pytest.raises(UsageError, match=message):
        run(align_argv, tmp_path / "exp", more=more)


def test_time_warp_is_the_baselines_own_business(align_argv, tmp_path):
    run(align_argv, tmp_path / "exp", "preset=baseline",
        more=["--specaug_conf", "apply_time_warp=true"])  # fmt: skip


def change(folder, write_stream, utt, labels, name="targets"):
    from omniio import kaldi

    scp = folder / "train" / f"{name}.scp"
    rows = {u: np.array(x) for u, x in kaldi.load_scp_sequential(str(scp))}
    rows[utt] = labels(rows[utt])
    write_stream(scp, [(u, x) for u, x in rows.items() if x is not None])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda x: np.append(x[:-1], 7), "train05: label 7, but there are 7 classes"),
        (lambda x: np.append(x[:-1], -2), "train05: label -2"),
        (lambda x: x[:-12], r"train05: \d+ labels for 0\.\d+ s"),
        (lambda x: np.append(x, x), "train05: .* encoder frames against"),
        (lambda x: None, "train05: no labels"),
    ],
)
def test_labels_that_do_not_fit_name_the_utterance(own, write_stream, tmp_path, labels, message):
    folder, argv = own
    change(folder, write_stream, "train05", labels)
    with pytest.raises(DataError, match=message):
        run(argv, tmp_path / "exp")
    assert not (tmp_path / "exp" / "1epoch.pth").exists()


def test_an_unaligned_utterance_may_be_a_single_label(own, write_stream, tmp_path):
    folder, argv = own
    change(folder, write_stream, "train05", lambda x: np.array([-1]))
    run(argv, tmp_path / "exp", "preset=weak_tri")


def test_words_beyond_the_text_name_the_utterance(own, write_stream, tmp_path):
    folder, argv = own
    change(folder, write_stream, "train05", lambda x: np.where(x < 0, x, 3), "target_words")
    with pytest.raises(DataError, match="train05: 4 words are aligned, the text has 1"):
        run(argv, tmp_path / "exp", "preset=bpe_ce")


def test_missing_streams_and_headers_say_what_to_add(own, tiny_argv, tmp_path):
    folder, argv = own
    streamless = [*tiny_argv, "--specaug_conf", "apply_time_warp=false"]
    with pytest.raises(UsageError, match=r"aux\.header"):
        run(streamless, tmp_path / "exp")
    with pytest.raises(UsageError, match="lack the stream 'align'"):
        run(streamless, tmp_path / "exp", f"header={folder}/train/header.json")
    (folder / "train" / "header.json").unlink()
    with pytest.raises(DataError, match="no header of the labels"):
        run(argv, tmp_path / "exp")


def test_labels_of_other_sources(own, tmp_path):
    """Shuffled labels have other lengths; a sub-folder has another header."""
    folder, argv = own
    for part in ("train", "valid"):
        tri = folder / part / "tri"
        tri.mkdir()
        for name in ("targets.scp", "header.json"):
            shutil.copy(folder / part / name, tri)
    header = folder / "train" / "tri" / "header.json"
    header.write_text(header.read_text().replace('"num_classes": 7', '"num_classes": 9'))
    out = run(argv, tmp_path / "tri", "label_source=tri")
    saved = yaml.safe_load((out / "config.yaml").read_text())
    streams = dict((name, path) for path, name, _ in saved["valid_data_path_and_name_and_type"])
    assert streams["align"].endswith("valid/tri/targets.scp") and "tri" not in streams["align_word"]
    assert saved["aux"]["resolved"]["classes"] == {"tri": 9}
    out = run(argv, tmp_path / "shuffled", "label_source=shuffled")
    saved = yaml.safe_load((out / "config.yaml").read_text())
    streams = [path for path, name, _ in saved["train_data_path_and_name_and_type"]]
    assert any(path.endswith("train/shuffled.scp") for path in streams)
    with pytest.raises(DataError, match=r"(?s)label_source.*mono.*there are: .*tri"):
        run(argv, tmp_path / "mono", "label_source=mono")


def test_bpe_labels_come_from_the_text_of_the_utterance(align_argv, tmp_path):
    args = train.parse(WeakAlignTask, [*align_argv, "--output_dir", str(tmp_path),
                                       "--aux", "preset=bpe_ce"])  # fmt: skip
    preprocess = WeakAlignTask.build_preprocess_fn(args, train=True)
    assert isinstance(preprocess.labeller, BpeLabeller)
    words = np.array([-1, 0, 0, 0, 0, -1])
    data = {"text": "abca", "align_word": words, "align_phone": np.array([0, 1, 2, 3, 4, 0])}
    assert preprocess("u", data)["align_bpe"].tolist() == [6, 2, 3, 4, 2, 6]
