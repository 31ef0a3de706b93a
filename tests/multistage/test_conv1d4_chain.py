# SPDX-License-Identifier: Apache-2.0
"""A Conformer with input_layer conv1d4 in all three trainings, packed, and loaded again."""

import json
import re
import shlex

import numpy as np
import pytest
import soundfile as sf
import torch

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, EspnetExtError, UsageError
from espnet_ext.espnet import checkpoint, fastimport, inference, train

fastimport.enable()

from espnet2.bin import asr_inference  # noqa: E402
from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402
from espnet2.tasks.st import STTask  # noqa: E402

from espnet_ext.espnet.frozen import hidden_input, load_frozen  # noqa: E402
from espnet_ext.espnet.loading import verify_told  # noqa: E402
from espnet_ext.espnet.pack import pack_asr  # noqa: E402
from espnet_ext.espnet.recognise import load_recogniser  # noqa: E402
from espnet_ext.espnet.speech2text import Speech2Text  # noqa: E402
from espnet_ext.espnet.translate import Translator  # noqa: E402
from espnet_ext.espnet.verify import verify_stock  # noqa: E402
from espnet_ext.recipe.steps.stock import inference as inference_command  # noqa: E402

METHOD = "espnet_ext.multistage"
ENCODER = [
    "--encoder", "conformer", "--encoder_conf", "input_layer=conv1d4",
    "--encoder_conf", "pos_enc_layer_type=abs_pos", "--encoder_conf", "rel_pos_type=latest",
    "--encoder_conf", "selfattention_layer_type=selfattn", "--encoder_conf", "num_blocks=1",
    "--encoder_conf", "cnn_module_kernel=3", "--max_epoch", "1",
]  # fmt: skip
MODEL = "1epoch.pth"
BEAM = {"beam_size": 2, "ctc_weight": 0.3, "maxlenratio": -5}


def run(task, argv, out, before=None):
    init = ["--init_param", f"{before / MODEL}:encoder:encoder"] if before else []
    train.run(task, [*argv, *ENCODER, *init, "--output_dir", str(out)])
    return out


@pytest.fixture(scope="module")
def chain(pretrain_argv, tiny_argv, tmp_path_factory):
    """Folders of the three trainings."""
    root = tmp_path_factory.mktemp("conv1d4")
    pairs = zip(tiny_argv[::2], tiny_argv[1::2], strict=True)
    st = [x for p in pairs if not p[1].startswith(("ctc_weight", "report")) for x in p]
    one = run(f"{METHOD}.task:PretrainTask", pretrain_argv, root / "pretrain")
    two = run(f"{METHOD}.translation.task:TranslationTask", st, root / "midtrain", one)
    return (
        one,
        two,
        run(f"{METHOD}.recognition.task:RecognitionTask", tiny_argv, root / "fine", two),
    )


@pytest.fixture(scope="module")
def archive(chain, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "model.zip"
    pack_asr(chain[2] / "config.yaml", chain[2] / MODEL, [], out)
    return out


def speech():
    return np.random.default_rng(0).standard_normal(12000).astype(np.float32)


def test_all_of_the_encoder_arrives_in_each_phase(chain):
    names = [k for k in checkpoint.load(chain[0] / MODEL) if k.startswith("encoder.")]
    assert sum(k.startswith("encoder.embed.layers.") for k in names) == 4
    for out in chain[1:]:
        record = json.loads((out / "phase.json").read_text())
        taken = record["encoder_tensors_taken"], record["encoder_tensors"]
        assert taken == (len(names), len(names))


def test_the_encoder_makes_250_tokens_of_1000_frames(chain):
    model = load_frozen(chain[2] / "config.yaml", chain[2] / MODEL)
    samples = 16000 * 10 - 160  # a centred transform has a frame more
    feats, lengths = hidden_input(model, torch.randn(1, samples), torch.tensor([samples]))
    out, counts, _ = model.encoder(feats, lengths)
    assert feats.shape[1] == 1000 and out.shape[:2] == (1, 250) and counts.tolist() == [250]


def test_stock_espnet_refuses_and_says_why(chain):
    config, model = chain[2] / "config.yaml", chain[2] / MODEL
    with pytest.raises(EspnetExtError, match="unknown input_layer: conv1d4"):
        verify_stock(config, model)
    told = verify_told(config, model)
    assert "stock ESPnet refuses it, as it has no input layer conv1d4" in told
    assert "refuses" in verify_told(chain[1] / "config.yaml", chain[1] / MODEL, STTask)
    with pytest.raises(ValueError, match="unknown input_layer: conv1d4"):
        asr_inference.Speech2Text(str(config), str(model))


@pytest.mark.parametrize("beam", [BEAM, None], ids=["beam", "greedy"])
def test_our_loaders_answer_alike_before_and_after_packing(chain, archive, beam):
    here = load_recogniser(chain[2] / "config.yaml", chain[2] / MODEL, beam)([speech()])
    if beam is None:
        assert len(here[0]) == 1
        return
    packed = Speech2Text.from_pretrained(archive, **beam)
    text, _, _, hypothesis = packed(speech())[0]
    assert (text or "", float(hypothesis.score)) == here[0][0]
    assert asr_inference.ASRTask is StockASRTask, "ESPnet's module is as it was"


def test_the_translation_is_decoded(chain):
    translate = Translator(chain[1] / "config.yaml", chain[1] / MODEL, {"beam_size": 1})
    assert len(translate([speech()])) == 1


def test_espnets_own_program_decodes_with_our_loader_before_it(chain, tmp_path):
    """As dry runs print it; its options are those of ESPnet."""
    sf.write(tmp_path / "a.wav", speech(), 16000, subtype="FLOAT")
    (tmp_path / "wav.scp").write_text(f"a {tmp_path / 'a.wav'}\n")
    search = {"asr": BEAM, "st": {**BEAM, "ctc_weight": 0.0}}  # this translator has no CTC
    translate = Translator(chain[1] / "config.yaml", chain[1] / MODEL, search["st"])
    recognise = load_recogniser(chain[2] / "config.yaml", chain[2] / MODEL, BEAM)
    best = {"st": translate([speech()])[0][0], "asr": recognise([speech()])[0][0]}
    for kind, folder in (("st", chain[1]), ("asr", chain[2])):
        files = (folder / "config.yaml", folder / MODEL)
        command = inference_command(kind, files, tmp_path, tmp_path / kind, search[kind], "it")
        inference.main(shlex.split(command)[3:])
        found = tmp_path / kind / tmp_path.name / "1best_recog"
        score = float(re.findall(r"-?[\d.]+", read_table(found / "score")["a"])[0])
        assert (read_table(found / "text")["a"], pytest.approx(score, abs=1e-3)) == best[kind]
    with pytest.raises(UsageError, match="no inference 'ars'"):
        inference.main(["ars"])
    with pytest.raises(UsageError, match="the model is not given"):
        inference.main(["st", "--output_dir", "x", "--data_path_and_name_and_type", "a,b,c"])


def test_a_checkpoint_that_lacks_the_layer_is_refused(chain, tmp_path):
    state = checkpoint.load(chain[2] / MODEL)
    state.pop("encoder.embed.layers.0.weight")
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(DataError, match=r"lacks 1 of .*layers\.0\.weight"):
        load_recogniser(chain[2] / "config.yaml", tmp_path / "less.pth", BEAM)


def test_another_encoder_cannot_have_it(tiny_argv, tmp_path):
    with pytest.raises(UsageError, match="transformer cannot have the input layer conv1d4"):
        train.run("asr", [*tiny_argv, *ENCODER[2:4], "--output_dir", str(tmp_path / "x")])
