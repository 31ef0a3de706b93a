# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext COMMAND [options]

  recipe  [options of run.sh]        run the recipe in this folder; 'espnet-ext recipe --help'
  new     egs2/CORPUS/METHOD1        make a recipe for another corpus; 'new --help'
  doctor  [--data DIR ... [--fix]]   check this recipe or machine, or data; 'doctor --help'
  data    --from-cuts | --to-cuts    lhotse's cuts and Shar, to and from data folders
  align   COMMAND ...                hybrid triphone alignment; 'espnet-ext align' lists commands
  simulate-asr COMMAND ...           ASR-like text from manual text; 'espnet-ext simulate-asr'
  train | decode | score [options]   the stages of that name of the recipe in this folder
  decode  --model MODEL ...          intents or concepts by a model; 'decode --model --help'
  embed   --model MODEL AUDIO ...    utterance embeddings; --retrieve ranks texts of any language
  score   --slu REF HYP [--out DIR]  scores of tagged text; 'score --slu --help'
  transcribe DATA OUT --asr ASR.zip  ASR transcripts of a data folder, by an ESPnet model
  results [DIR]                      write every RESULTS.md below DIR (default: .) from run records
  report  EXPERIMENT ...             one HTML page: curves, scores, worst utterances with sound
  evidence FILE.yaml                 train and score all systems of a claim over seeds
  sweep   FILE.yaml                  run a grid of experiments of the recipe here, draw its curve
  publish EXPERIMENT --licence ID    a folder for the Hugging Face hub; --push uploads it
  upstream RECIPE --espnet CHECKOUT  a recipe as a branch of ESPnet, with ESPnet's own checks
  schema                             JSON schema of recipe.yaml, for editors
  probe   --model MODEL --task TASK  SUPERB tasks on the layers of a frozen encoder
  completion bash|zsh                completion of run.sh and espnet-ext for a shell
  version                            print the versions in use

Every command has --help.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 data or environment not usable.
"""

import json
import sys
from pathlib import Path

from espnet_ext.errors import EspnetExtError, UsageError, close_stdout, nearest

STAGES = {"train": ("pretrain", "finetune"), "decode": ("decode",) * 2, "score": ("score",) * 2}
COMMANDS = (
    "recipe",
    "new",
    "doctor",
    "data",
    "evidence",
    "align",
    "simulate-asr",
    "results",
    "report",
    "sweep",
    "publish",
    "transcribe",
    "embed",
    "probe",
    "completion",
    "schema",
    "upstream",
    "version",
    *STAGES,
)
# What uses a model, by the section of its configuration that names the method.
DECODERS = {
    "ml_lmcl": "espnet_ext.ml_lmcl.decode_command",
    "dual_task": "espnet_ext.dual_task.decode_command",
}
HELP = {  # of commands that have no module of their own
    "results": """usage: espnet-ext results [DIR]
       espnet-ext results --page PAGE.md

Write every RESULTS.md below DIR (default: .) from the run records. With --page, write one table
and one figure of several recipes into a page, where it says:

  <!-- results: egs2/an4/asr1 egs2/an4/weak_align1; figure: docs/results.png -->
  <!-- end of results -->""",
    "schema": """usage: espnet-ext schema > recipe.schema.json

Print the JSON schema of recipe.yaml. Editors with a YAML language server complete and check keys
where the first line of recipe.yaml is:  # yaml-language-server: $schema=PATH/recipe.schema.json""",
    "completion": """usage: espnet-ext completion bash|zsh

Print the completion of run.sh and espnet-ext: options, keys of recipe.yaml, names of stages.
Load it in ~/.bashrc or ~/.zshrc:  eval "$(espnet-ext completion bash)"
""",
    "version": "usage: espnet-ext version\n\nPrint the versions in use.",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(__doc__.rstrip())
        return 0 if argv else 2
    command, rest = argv[0], argv[1:]
    _find_local()
    try:
        if command == "decode" and any(x.partition("=")[0] == "--model" for x in rest):
            return _of_model("main", "decode", rest)
        if command == "score" and "--slu" in rest:
            return _score_slu(rest)
        if command in STAGES:
            first, last = STAGES[command]
            return _recipe(["--stage", first, "--stop-stage", last, *rest])
        if command not in COMMANDS:
            raise UsageError(f"there is no command '{command}'", None, nearest(command, COMMANDS))
        if command in HELP and any(x in ("-h", "--help") for x in rest):
            print(HELP[command].rstrip())
            return 0
        return globals()[f"_{command.replace('-', '_')}"](rest)
    except EspnetExtError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except BrokenPipeError:  # as in 'espnet-ext schema | head'
        close_stdout()
        return 0


def _find_local() -> None:
    """Let ``local.NAME`` of the recipe in this folder be imported, as run.sh does."""
    if Path("recipe.yaml").is_file() and Path("local").is_dir() and "" not in sys.path:
        sys.path.append("")  # at the end: nothing here hides an installed module


def _recipe(argv: list[str]) -> int:
    from espnet_ext.recipe.runner import main as run

    return run(argv)


def _new(argv: list[str]) -> int:
    from espnet_ext.recipe.new import main as new

    return new(argv)


def _doctor(argv: list[str]) -> int:
    if argv:
        from espnet_ext.data.doctor import main as doctor
        from espnet_ext.recipe.steps.streams import streams_here

        return doctor(argv, streams_here)
    if Path("recipe.yaml").exists():
        return _recipe(["--doctor"])
    from espnet_ext.recipe.environment import check_environment

    checks = check_environment({"path": "."})
    for c in checks:
        print(c)
    return 0 if all(c.ok or not c.required for c in checks) else 3


def _data(argv: list[str]) -> int:
    from espnet_ext.data.lhotse.command import main as data

    return data(argv)


def _align(argv: list[str]) -> int:
    from espnet_ext.align.command import main as align

    return align(argv)


def _simulate_asr(argv: list[str]) -> int:
    from espnet_ext.plugin import load_object

    return load_object("espnet_ext.ml_lmcl.simulate.command:main", "espnet-ext")(argv)


def _results(argv: list[str]) -> int:
    if "--page" in argv:
        return _results_page(argv)
    from espnet_ext.scoring.results import regenerate_all, write_results

    _no_arguments("results", [a for a in argv if a.startswith("-")] or argv[1:])
    root = Path(argv[0] if argv else ".")
    pages = regenerate_all(root) or ([write_results(root)] if (root / "results").is_dir() else [])
    for page in pages:
        print(page)
    if not pages:
        raise UsageError("there are no run records below this folder", root, "run a recipe first")
    return 0


def _results_page(argv: list[str]) -> int:
    from espnet_ext.scoring.summary_page import write_page

    if len(argv) != 2 or argv[0] != "--page":
        raise UsageError("--page needs one file", None, "espnet-ext results --page README.md")
    print(write_page(argv[1]))
    return 0


def _report(argv: list[str]) -> int:
    from espnet_ext.report.command import main as report

    return report(argv)


def _evidence(argv: list[str]) -> int:
    from espnet_ext.recipe.evidence import main as evidence

    return evidence(argv)


def _sweep(argv: list[str]) -> int:
    from espnet_ext.recipe.sweep import main as sweep

    return sweep(argv)


def _publish(argv: list[str]) -> int:
    from espnet_ext.recipe.publish.command import main as publish

    return publish(argv)


def _transcribe(argv: list[str]) -> int:
    return _run(f"{DECODERS['ml_lmcl']}:transcribe_main", argv)


def _embed(argv: list[str]) -> int:
    return _run("espnet_ext.dual_task.embed_command:main", argv)


def _probe(argv: list[str]) -> int:
    return _run("espnet_ext.multistage.superb.command:main", argv)


def _of_model(function: str, command: str, argv: list[str]) -> int:
    """Run a command of the method that made the model; ask each for its help without one."""
    model = _value("--model", argv)
    if model is None and any(x in ("-h", "--help") for x in argv):
        for i, module in enumerate(DECODERS.values()):
            print(end="\n" if i else "")
            _run(f"{module}:{function}", ["--help"])
        return 0
    if model is None:
        raise UsageError("--model: expected one argument", f"espnet-ext {command}", "--help")
    from espnet_ext.espnet.model_kind import method_of

    return _run(f"{DECODERS[method_of(model, DECODERS)]}:{function}", argv)


def _value(option: str, argv: list[str]) -> str | None:
    """Return the value of an option as it was last given; None where it has none."""
    value = None
    for here, after in zip(argv, [*argv[1:], "-"], strict=True):
        name, equals, given = here.partition("=")
        if name == option and (equals or not after.startswith("-")):
            value = (given if equals else after) or None
    return value


def _run(function: str, argv: list[str]) -> int:
    from espnet_ext.plugin import load_object

    return load_object(function, "espnet-ext")(argv)


def _score_slu(argv: list[str]) -> int:
    from espnet_ext.scoring.slu.command import main as score

    return score(argv)


def _upstream(argv: list[str]) -> int:
    from espnet_ext.upstream.command import main as upstream

    return upstream(argv)


def _schema(argv: list[str]) -> int:
    from espnet_ext.recipe.keys import json_schema

    _no_arguments("schema", argv)
    print(json.dumps(json_schema(), indent=2))
    return 0


def _completion(argv: list[str]) -> int:
    from espnet_ext.recipe.completion import script

    if len(argv) != 1:
        raise UsageError("completion needs the name of a shell", None, "bash or zsh")
    print(script(argv[0], COMMANDS), end="")
    return 0


def _no_arguments(command: str, argv: list[str]) -> None:
    if argv:
        raise UsageError(
            f"{command} does not know '{argv[0]}'", None, f"espnet-ext {command} --help"
        )


def _version(argv: list[str]) -> int:
    from espnet_ext.recipe.environment import versions

    _no_arguments("version", argv)
    for name, version in versions().items():
        print(f"{name} {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
