# SPDX-License-Identifier: Apache-2.0
"""Time a training step and decoding of the weak-alignment model against stock ESPnet's.

Both have the same weights and the same batch of noise; the auxiliary loss has K classes. Steps
alternate, so that a change of the machine's load meets both alike. On a CPU the time that counts is
that of the process, in all threads; on a GPU the wall clock after a synchronisation. Then the
checkpoints of both are decoded, greedily and by beam search.

    python benchmarks/weak_align_step.py [--device cuda] [--config FILE.yaml ...] [--steps 10]

Without --config: the Conformer of egs2/an4/weak_align1, and a BLSTM encoder in its place. A batch
has the size of the configuration's batch_bins. A measurement, not a test: it ends with 0 whatever
the times are, and with 1 if the texts of the two checkpoints differ.
"""

import argparse
import contextlib
import io
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_ext.align.formats.directory import Header
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import provide_editdistance, quiet_import

ROOT = Path(__file__).resolve().parents[1]
AN4 = ROOT / "egs2/an4/weak_align1/conf/train_cpu.yaml"
BLSTM = {
    "encoder": "rnn",
    "encoder_conf": {
        "rnn_type": "lstm", "bidirectional": True, "use_projection": True, "num_layers": 6,
        "hidden_size": 256, "output_size": 256, "subsample": [3, 2, 1, 1, 1, 1], "dropout": 0.0,
    },
    "decoder": "rnn",
    "decoder_conf": {"hidden_size": 256, "att_conf": {"atype": "location", "adim": 256}},
}  # fmt: skip
TASKS = {"stock": "espnet_ext.espnet.task:ASRTask",
         "weak": "espnet_ext.weak_align.task:WeakAlignTask"}  # fmt: skip
TOKENS, TOKENS_PER_S, FRAMES_PER_LABEL, BEAM = 30, 6, 4, 5


def configurations(files: list[Path]) -> dict[str, dict]:
    """Return the configurations to time, by name."""
    if files:
        return {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in files}
    conformer = yaml.safe_load(AN4.read_text(encoding="utf-8"))
    return {"conformer": conformer, "blstm": {**conformer, **BLSTM}}


def build(conf: dict, side: str, classes: int, folder: Path) -> tuple[Any, argparse.Namespace]:
    """Return one of the two models, and the options it was built by."""
    from espnet_ext.espnet.task import find_task
    from espnet_ext.espnet.train import parse

    own = {k: v for k, v in conf.items() if k != "aux"}
    if side == "weak":
        header = Header("senone", classes, silence_ids=(0, 1, 2), phones=("SIL", "AH"))
        (folder / "header.json").write_text(json.dumps(header.to_json()), encoding="utf-8")
        own["aux"] = {**conf.get("aux", {}), "header": str(folder / "header.json")}
    names = ["<blank>", "<unk>", *(f"t{i}" for i in range(TOKENS - 3)), "<sos/eos>"]
    (folder / "tokens.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "train.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    task = find_task(TASKS[side])
    argv = ["--config", str(folder / "train.yaml"), "--token_list", str(folder / "tokens.txt")]
    args = parse(task, [*argv, "--token_type", "word", "--output_dir", str(folder)])
    torch.manual_seed(1)
    with contextlib.redirect_stdout(io.StringIO()):
        return task.build_model(args), args


def batch_of(utterances: int, seconds: float, classes: int) -> dict[str, torch.Tensor]:
    """Return noise with random tokens, and random labels that stay for some frames."""
    draw = torch.Generator().manual_seed(2)
    samples, frames = int(16000 * seconds), int(100 * seconds)
    tokens = max(1, int(TOKENS_PER_S * seconds))
    segments = frames // FRAMES_PER_LABEL + 1
    labels = torch.randint(classes, (utterances, segments), generator=draw)
    return {
        "speech": 0.1 * torch.randn(utterances, samples, generator=draw),
        "speech_lengths": torch.full((utterances,), samples),
        "text": torch.randint(2, TOKENS - 1, (utterances, tokens), generator=draw),
        "text_lengths": torch.full((utterances,), tokens),
        "align": labels.repeat_interleave(FRAMES_PER_LABEL, 1)[:, :frames],
        "align_lengths": torch.full((utterances,), frames),
    }


def stepper(model: torch.nn.Module, batch: dict, device: str) -> Callable[[], None]:
    """Return one update: forward, backward, clipping, Adam."""
    model.to(device).train()
    batch = {k: v.to(device) for k, v in batch.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        loss, _, _ = model(**batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step


def timed(work: Callable[[], Any], device: str) -> float:
    """Return seconds of the process on a CPU, of the wall clock on a GPU."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(work: dict[str, Callable], count: int, device: str) -> dict[str, float]:
    """Return the median seconds of each, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(count + 2):
        for name in list(work) if number % 2 else reversed(work):
            seconds = timed(work[name], device)
            if number > 1:
                times[name].append(seconds)
    return {name: statistics.median(t) for name, t in times.items()}


def time_steps(conf: dict, classes: int, args: argparse.Namespace) -> str:
    """Return a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        models = {side: build(conf, side, classes, Path(folder))[0] for side in TASKS}
    models["weak"].load_state_dict(models["stock"].state_dict(), strict=False)
    count = max(1, round(conf["batch_bins"] / (16000 * args.seconds)))
    batch = batch_of(args.utterances or count, args.seconds, classes)
    plain = {k: v for k, v in batch.items() if "align" not in k}
    work = {side: stepper(m, plain if side == "stock" else batch, args.device)
            for side, m in models.items()}  # fmt: skip
    found = in_turn(work, args.steps, args.device)
    sizes = [sum(p.numel() for p in m.parameters()) / 1e6 for m in models.values()]
    return (f"{sizes[0]:9.2f} {sizes[1]:9.2f} {1000 * found['stock']:10.1f} "
            f"{1000 * found['weak']:10.1f} {found['weak'] / found['stock']:7.3f}")  # fmt: skip


def save(conf: dict, side: str, folder: Path, weights: dict | None) -> dict:
    """Write config.yaml and model.pth as a training does; return the weights."""
    from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump

    folder.mkdir()
    model, args = build(conf, side, 4500, folder)
    model.load_state_dict(weights or model.state_dict(), strict=False)
    torch.save(model.state_dict(), folder / "model.pth")
    with open(folder / "config.yaml", "w", encoding="utf-8") as f:
        yaml_no_alias_safe_dump(vars(args), f, indent=4, sort_keys=False)
    return model.state_dict()


def time_decoding(conf: dict, args: argparse.Namespace) -> list[tuple[str, str, bool]]:
    """Return a line of the table for each method, and whether the texts are the same."""
    from espnet_ext.espnet.recognise import Greedy

    with quiet_import():
        from espnet2.bin.asr_inference import Speech2Text
    speech = batch_of(4, args.seconds, 2)["speech"].numpy()
    greedy, beam, out = {}, {}, []
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stdout(io.StringIO()):
        weights = None
        for side in TASKS:
            folder = Path(root) / side
            weights = save(conf, side, folder, weights)
            files = str(folder / "config.yaml"), str(folder / "model.pth")
            greedy[side] = Greedy(*files, args.device)
            options = {"beam_size": BEAM, "ctc_weight": 0.3, "maxlenratio": 0.3}
            beam[side] = Speech2Text(*files, device=args.device, **options)
    for name, made, run in (
        ("greedy", greedy, lambda d: [found[0][0] for found in d(list(speech))]),
        ("beam", beam, lambda d: [d(x)[0][0] for x in speech]),
    ):
        texts = [run(made[side]) for side in TASKS]
        work = {side: lambda d=made[side], run=run: run(d) for side in TASKS}
        found = in_turn(work, args.steps if name == "greedy" else 3, args.device)
        line = (f"{1000 * found['stock']:10.1f} {1000 * found['weak']:10.1f} "
                f"{found['weak'] / found['stock']:7.3f}")  # fmt: skip
        out.append((name, line, texts[0] == texts[1] and any(texts[0])))
    return out


def main(argv: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="training configuration")
    parser.add_argument("--classes", type=int, nargs="+", default=[400, 4500, 9001])
    parser.add_argument("--seconds", type=float, default=3.0, help="of an utterance")
    parser.add_argument("--utterances", type=int, help="default: by batch_bins")
    parser.add_argument("--steps", type=int, default=10, help="of each model (default: 10)")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)  # of ESPnet, for each step
    fastimport.enable()
    provide_editdistance()
    what = "process time" if args.device == "cpu" else "wall time"
    print(
        f"{args.device}, {torch.get_num_threads()} threads; {what} in ms, medians of {args.steps}"
    )
    print(
        f"{'step':<16}{'K':>6} {'M stock':>9} {'M weak':>9} {'stock':>10} {'weak':>10} {'ratio':>7}"
    )
    same = True
    for name, conf in configurations(args.config).items():
        for classes in args.classes:
            print(f"{name:<16}{classes:>6} {time_steps(conf, classes, args)}", flush=True)
    print(f"{'decoding':<16}{'':>6} {'':>9} {'texts':>9} {'stock':>10} {'weak':>10} {'ratio':>7}")
    for name, conf in configurations(args.config).items():
        for method, line, equal in time_decoding(conf, args):
            same = same and equal
            told = "equal" if equal else "DIFFER"
            print(f"{name:<16}{method:>6} {'':>9} {told:>9} {line}", flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
