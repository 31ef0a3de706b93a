# SPDX-License-Identifier: Apache-2.0
"""A copy of a recipe in a tree of the same shape, and run.sh in it."""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import yaml
from warm import RECIPE, Warm, as_module, run_stock

ROOT = Path(__file__).resolve().parents[2]

# Stands in for Python and notes with what the shell would have started it.
STUB = """\
#!/bin/sh
printf '%s\\0' "$@" >"$0.argv"
printf '%s\\0' "$PWD" >"$0.cwd"
env -0 >"$0.env"
"""

TINY = [
    "--prepare.args="
    "[--train-minutes, '0.6', --train-speakers, '2', --dev-utts, '4', --test-utts, '4']",
    "--finetune.args.max_epoch=2",
    "--finetune.args.batch_bins=300000",
    "--finetune.args.encoder_conf={num_blocks: 1, output_size: 32, linear_units: 32}",
    "--finetune.args.decoder_conf={linear_units: 32}",
]


@dataclass
class RecipeCopy:
    """A recipe folder of the test's own."""

    path: Path

    def start(
        self, *argv: str, env: dict | None = None, fresh: bool = False
    ) -> subprocess.Popen | Warm:
        """Start run.sh in a process group of its own; ``fresh``: with an interpreter of its own."""
        env = {**os.environ, "ESPNET_EXT_PYTHON": sys.executable, **(env or {})}
        command = ["bash", "run.sh", *argv]
        if not fresh:
            return Warm(RECIPE, *reaches_python(command, self.path, env))
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *argv: str, code: int = 0, env: dict | None = None, fresh: bool = False) -> str:
        """Run run.sh to its end, check the exit code, return what it printed."""
        process = self.start(*argv, env=env, fresh=fresh)
        out, _ = process.communicate(timeout=600)
        assert process.returncode == code, out
        return out

    def finish(self, *argv: str, env: dict | None = None, fresh: bool = False) -> str:
        """Run all stages; tiny models recognise nothing, so they are packed by force."""
        out = self.run(*argv, "--stop-stage", "score", env=env, fresh=fresh)
        return out + self.run(*argv, "--stage", "pack", "--force", env=env)

    def kill_at(self, moment: str, *argv: str, after: str = "") -> None:
        """Run run.sh and kill it when it prints a line that starts with ``moment``.

        Lines before one that starts with ``after`` do not count.
        """
        process, reached = self.start(*argv), False
        for line in process.stdout:
            reached = reached or line.startswith(after)
            if reached and line.startswith(moment):
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL, moment

    def edit(self, values: dict[str, object]) -> None:
        """Set fields of recipe.yaml, ``{"section.field": value}``."""
        file = self.path / "recipe.yaml"
        content = yaml.safe_load(file.read_text())
        for key, value in values.items():
            section, field = key.split(".")
            content[section][field] = value
        file.write_text(yaml.safe_dump(content))


def copy_recipe(name: str, root: Path) -> RecipeCopy:
    """Copy ``egs2/<name>`` without what a run made there."""
    made = shutil.ignore_patterns(
        "data", "dump", "exp", "downloads", ".stages", "results", "RESULTS.md"
    )
    path = root / "egs2" / name
    shutil.copytree(ROOT / "egs2" / name, path, ignore=made)
    for shared in ("utils", "local", "conf", "egs2/TEMPLATE/asr1/conf"):
        if not (root / shared).exists():
            shutil.copytree(ROOT / shared, root / shared)
    return RecipeCopy(path)


def reaches_python(command: list[str], cwd: Path, env: dict) -> tuple[str, str, dict]:
    """Let a shell command come as far as ``python -m``, on the PATH or in ESPNET_EXT_PYTHON.

    Returns:
        What :class:`Warm` needs to go on from there: code, folder and environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        stub = Path(folder) / "python"
        stub.write_text(STUB)
        stub.chmod(0o755)
        changed = {"PATH": f"{folder}:{env['PATH']}", "ESPNET_EXT_PYTHON": str(stub)}
        subprocess.run(command, cwd=cwd, env={**env, **changed}, check=True)
        argv, (where,), rows = (
            stub.with_suffix(kind).read_text().split("\0")[:-1]
            for kind in (".argv", ".cwd", ".env")
        )
    assert argv[0] == "-m"
    code = as_module(argv[1], argv[2:])
    kept = {name: env[name] for name in changed if name in env}
    return code, where, {**dict(row.split("=", 1) for row in rows), **kept}


def run_stock_inference(recipe: RecipeCopy, *argv: str, env: dict | None = None) -> None:
    """Run what ``--dry-run`` prints of stage 8, in one process that cannot import this package."""
    only = ("--dry-run", "--stage", "decode", "--stop-stage", "decode")
    printed = re.findall(r"^  stock: (.*)$", recipe.run(*argv, *only, env=env), re.M)
    commands = [shlex.split(command) for command in printed]
    calls = [f"import_module({c[2]!r}).main({c[3:]!r})\n" for c in commands]
    run_stock("from importlib import import_module\n" + "".join(calls), recipe.path)


def decode_stock(recipe: RecipeCopy, told: str, model: Path, method: str, cwd: Path) -> None:
    """Decode by stock ESPnet as stage 10 told, then again by the model without the method's parts.

    Args:
        recipe: A finished one.
        told: What its run printed.
        model: File of its trained parameters.
        method: How the names of the method's own parameters start; stock ESPnet has none of them.
        cwd: Folder to work in.
    """
    import torch

    load, make = re.search(r"(import soundfile;.*)\n\s*(asr = .*)\n", told).groups()
    wav = next((recipe.path / "data/wav").rglob("*.flac"))
    params = torch.load(model, weights_only=True)
    bare = {k: v for k, v in params.items() if not k.startswith(method)}
    assert len(bare) < len(params)
    torch.save(bare, cwd / "bare.pth")
    code = f"""{load}
speech = soundfile.read({str(wav)!r})[0]
{make}
first = asr(speech)[0]
asr.asr_model.load_state_dict(__import__("torch").load("bare.pth"), strict=True)
again = asr(speech)[0]
assert first[0] == again[0] and first[3].score == again[3].score
assert not any(n.startswith({method!r}) for n, _ in asr.asr_model.named_modules())"""
    run_stock(code, cwd)


def load_local(name: str) -> ModuleType:
    """Load a script of ``local/`` under a name that no package has."""
    folder = str(ROOT / "local")
    spec = importlib.util.spec_from_file_location(f"local_{name}", f"{folder}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module
