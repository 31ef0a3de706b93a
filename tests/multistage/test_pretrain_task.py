# SPDX-License-Identifier: Apache-2.0
"""Stage 1 in ESPnet: names of the encoder, training, exact resume, what is refused."""

import signal

import pytest
import torch
from children import assert_same_end, in_child, killed_in

from espnet_ext.errors import UsageError
from espnet_ext.espnet import fastimport, train

fastimport.enable()

from espnet_ext.espnet.task import ASRTask  # noqa: E402
from espnet_ext.multistage.task import PretrainTask  # noqa: E402

TASK = "espnet_ext.multistage.task:PretrainTask"
CASES = {"mae": "objective=mae", "clr": "objective=clr", "both": "objective=mae+clr"}


def _build(argv, *more):
    args = PretrainTask.get_parser().parse_args([*argv, *more, "--output_dir", "unused"])
    return args, PretrainTask.build_model(args)


def test_front_end_and_encoder_have_the_names_and_values_of_espnets_asr_model(pretrain_argv):
    torch.manual_seed(5)
    args, model = _build(pretrain_argv)
    at = pretrain_argv.index("--multistage")
    stock_argv = [a for i, a in enumerate(pretrain_argv) if not at <= i < at + 2 * 11]
    assert "--multistage" not in stock_argv
    stock_argv += ["--token_list", "", "--model_conf", "ctc_weight=1.0", "--output_dir", "unused"]
    stock_args = ASRTask.get_parser().parse_args(stock_argv)
    stock_args.token_list = args.token_list
    torch.manual_seed(5)
    stock = ASRTask.build_model(stock_args)
    parts = ("frontend.", "normalize.", "encoder.")
    ours = {k: v for k, v in model.state_dict().items() if k.startswith(parts)}
    theirs = {k: v for k, v in stock.state_dict().items() if k.startswith(parts)}
    assert ours.keys() == theirs.keys() and len(ours) > 60
    assert all(v.equal(theirs[k]) for k, v in ours.items())
    others = {k.split(".")[0] for k in model.state_dict()} - {p[:-1] for p in parts}
    assert others == {"audio_visual"}


def test_speech_is_cut_after_1000_frames(pretrain_argv):
    _, model = _build(pretrain_argv)
    model.eval()
    speech = torch.randn(1, 200000)
    feats, lengths = model.features(speech, torch.tensor([200000]))
    assert feats.shape[1] == 1000 and lengths.tolist() == [1000]
    ten_s, _ = model.features(speech[:, :160000], torch.tensor([160000]))
    torch.testing.assert_close(feats, ten_s)
    whole = model.collect_feats(speech, torch.tensor([200000]))
    assert whole["feats_lengths"].tolist() == [1251]


def test_all_of_the_encoder_run_in_parts_is_the_encoder(pretrain_argv):
    from espnet_ext.multistage.audio_parts import run_blocks, subsample

    _, model = _build(pretrain_argv)
    encoder, feats, lengths = model.eval().encoder, torch.randn(2, 60, 20), torch.tensor([60, 41])
    tokens, valid = subsample(encoder, feats, lengths, model.audio_visual.at)
    stock, counts, _ = encoder(feats, lengths)
    assert counts.tolist() == valid.sum(1).tolist()
    torch.testing.assert_close(run_blocks(encoder, tokens, valid)[valid], stock[valid])


@pytest.mark.parametrize("ratio", [0.6, 0.1])  # convolved apart, or all of them
def test_the_seen_tokens_alone_are_those_of_the_whole_subsampling(pretrain_argv, ratio):
    from espnet_ext.multistage.audio_parts import subsample, subsample_some
    from espnet_ext.multistage.masking import gather_tokens, random_mask

    _, model = _build(pretrain_argv)
    encoder, at = model.eval().encoder, model.audio_visual.at
    feats, lengths = torch.randn(2, 60, 20), torch.tensor([60, 29])
    mask = random_mask(at.lengths(lengths), ratio, torch.Generator().manual_seed(0))
    found, gradients = [], []
    for tokens in (
        subsample_some(encoder, feats, lengths, mask, at),
        gather_tokens(subsample(encoder, feats, lengths, at)[0], mask.keep),
    ):
        encoder.zero_grad()
        tokens[mask.kept].square().sum().backward()
        found.append(tokens[mask.kept])
        gradients.append([p.grad.clone() for p in encoder.embed.parameters()])
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_a_video_that_is_too_short_is_counted_and_told_once(pretrain_argv, caplog):
    _, model = _build(pretrain_argv)
    speech, video = torch.randn(2, 9000), model.trial_streams()["video"]
    batch = {"speech": speech, "speech_lengths": torch.tensor([9000, 9000]), "video": video}
    with caplog.at_level("WARNING", logger="espnet_ext.progress"):
        for _ in range(2):
            more = {"video_repeated": torch.tensor([0, 3]), "utt_id": ["a", "b"]}
            assert float(model(**batch, **more)[1]["short_video"]) == 0.5
    told = [r.getMessage() for r in caplog.records if r.name == "espnet_ext.progress"]
    assert len(told) == 1 and "clip b" in told[0] and "3 times" in told[0]


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("pos_enc_layer_type=rel_pos", "pos_enc_layer_type"),
        ("input_layer=linear", "input_layer"),
        ("interctc_layer_idx=[1]", "interctc_layer_idx"),
    ],
)
def test_encoders_that_cannot_leave_tokens_out_are_refused(pretrain_argv, option, where):
    more = ["--encoder_conf", option]
    if "rel_pos" in option:
        more += ["--encoder_conf", "selfattention_layer_type=rel_selfattn"]
    with pytest.raises(UsageError, match=where):
        _build(pretrain_argv, *more)


def test_without_pictures_in_the_data_nothing_is_trained(pretrain_argv, tmp_path):
    argv = list(pretrain_argv)
    for path in [x for x in argv if "video.scp" in x]:
        at = argv.index(path)
        del argv[at - 1 : at + 1]
    args = PretrainTask.get_parser().parse_args([*argv, "--output_dir", str(tmp_path)])
    with pytest.raises(UsageError, match="video"):
        PretrainTask.main_worker(args)


def _train(argv, out, case):
    train.run(TASK, [*argv, "--multistage", CASES[case], "--output_dir", str(out)])


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed(case, pretrain_argv, tmp_path):
    whole, ours = tmp_path / "whole", tmp_path / "ours"
    assert in_child(_train, pretrain_argv, whole, case) == 0
    assert in_child(killed_in, 2, _train, pretrain_argv, ours, case) == -signal.SIGKILL
    assert in_child(_train, pretrain_argv, ours, case) == 0
    assert_same_end(ours, whole)
