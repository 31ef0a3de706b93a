# SPDX-License-Identifier: Apache-2.0
"""Options of trainings that take seconds: 12 labelled utterances, 12 unlabelled ones."""

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def unlabelled_dir(tmp_path_factory):
    """Audio without text: 12 utterances of 0.8 to 1.4 s."""
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(7)
    rows = [(f"u{i:02d}", int(rng.integers(12800, 22400))) for i in range(12)]
    for utt, n in rows:
        soundfile.write(folder / f"{utt}.wav", 0.1 * rng.standard_normal(n), 16000)
    (folder / "wav.scp").write_text("".join(f"{u} {folder}/{u}.wav\n" for u, _ in rows))
    (folder / "speech_shape").write_text("".join(f"{u} {n}\n" for u, n in rows))
    return folder


@pytest.fixture(scope="session")
def bl_argv(tiny_argv, unlabelled_dir):
    """Options of a training of two epochs and a last one: exploration, joint and last phase."""
    argv = list(tiny_argv)
    at = argv.index("--max_epoch")
    del argv[at : at + 2]
    argv += ["--stream_data_path_and_name_and_type", f"u,{unlabelled_dir}/wav.scp,speech,sound"]
    argv += ["--stream_shape_file", f"u,{unlabelled_dir}/speech_shape"]
    conf = ["epochs=2", "unsup_loss=best_rq", "final_steps=2", "gamma_max=0.5", "explore_lr=0.005"]
    conf += ["best_rq={codes: 16, code_dim: 4, mask_length_s: 0.16, mask_prob: 0.1}"]
    conf += ["cpc={context_s: 0.4, future_s: 0.2, hop_s: 0.2}", "measure_every=1"]
    return argv + [x for option in conf for x in ("--bl_just", option)]
