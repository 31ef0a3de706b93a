# SPDX-License-Identifier: Apache-2.0
"""What recipe.yaml may hold. Every field is an option of ``run.sh`` as ``--section.field``.

Type, limits, default and meaning of a key stand here once: reading checks them, ``run.sh --help
KEY``, completion and ``espnet-ext schema`` show them. A section with ``code: package.module`` is
done by that module (``plan(ctx)``, ``run(ctx, plan)``) instead of the standard one in
``recipe/steps/``; ``args`` are its settings.
"""

from dataclasses import dataclass, field
from typing import Annotated

from espnet_ext.errors import UsageError
from espnet_ext.settings import Limits

AtLeast0, AtLeast1 = Limits(at_least=0), Limits(at_least=1)
# A name becomes a folder below data/, dump/ or exp/.
FolderName = Annotated[str, Limits(pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*")]
Code = Annotated[str, "Module that does this stage instead of the standard one"]
CodeArgs = Annotated[dict, "Settings of `code`"]

PHASES = ("pretrain", "midtrain", "finetune")  # of training, in their order


@dataclass
class Corpus:
    """Where the corpus comes from; shown by ``--doctor`` and in errors."""

    name: Annotated[str, "Name of the corpus"] = ""
    env: Annotated[str, "Environment variable with the path of an existing copy"] = ""
    more_env: Annotated[list[str], "Further such variables, which may be unset"] = field(
        default_factory=list
    )
    language: Annotated[str, "Language of the speech or text, e.g. en, or 'fr, it'"] = ""
    licence: Annotated[str, "Licence of the corpus"] = ""
    source: Annotated[str, "Where to get it"] = ""
    size: Annotated[str, "Size of the download"] = ""
    layout: Annotated[str, "Path or pattern below the folder that tells it; 'a | b': either"] = ""
    file: Annotated[bool, "A file may be given instead of a folder"] = False
    download: Annotated[bool, "local/data.sh can fetch it itself"] = False


@dataclass
class Data:
    """Names of the folders below ``data/`` that local/data.sh makes."""

    train: Annotated[FolderName, "Training set"] = "train"
    valid: Annotated[FolderName, "Development set"] = "dev"
    test: Annotated[list[FolderName], "Test sets"] = field(default_factory=lambda: ["test"])
    also: Annotated[list[FolderName], "Further training sets, e.g. unlabelled ones"] = field(
        default_factory=list
    )
    files: Annotated[list[str], "Files of a set"] = field(
        default_factory=lambda: ["wav.scp", "text", "utt2spk"]
    )


@dataclass
class Prepare:
    """Stage 1: a script makes Kaldi-style ``data/<set>``."""

    script: Annotated[str, "Script that is run with the folder data as its first argument"] = (
        "local/data.sh"
    )
    args: Annotated[list[str], "Further arguments of the script"] = field(default_factory=list)
    disk_mb: Annotated[int, "Space that the data take, in MB", AtLeast0] = 100
    extras: Annotated[list[str], "Extras of this package that the script needs, e.g. video"] = (
        field(default_factory=list)
    )
    check: Annotated[bool, "run.sh --doctor runs the script with --check: it reads, and writes "
                           "nothing"] = False  # fmt: skip


@dataclass
class Format:
    """Stage 2: check, cut, resample and filter the audio."""

    fs: Annotated[int, "Sampling rate in Hz", Limits(at_least=100)] = 16000
    min_s: Annotated[float, "Shortest training utterance, in seconds", AtLeast0] = 0.1
    max_s: Annotated[float, "Longest training utterance, in seconds", Limits(above=0)] = 30.0
    speeds: Annotated[
        list[Annotated[float, Limits(above=0, at_most=10)]], "Speed copies of the training set"
    ] = field(default_factory=lambda: [1.0])
    audio_format: Annotated[str, "Format of audio that is written", Limits(("flac", "wav"))] = (
        "flac"
    )
    ctc_stride: Annotated[
        int, "Features (10 ms) per encoder frame: utterances too short for CTC are left out",
        AtLeast1,
    ] = 4  # fmt: skip
    channel: Annotated[
        Annotated[int, AtLeast0] | None, "Channel of the audio, from 0; null: the average"
    ] = None
    allow_pipes: Annotated[bool, "Run the commands of piped wav.scp entries"] = False
    join_s: Annotated[
        float,
        "Shorter utterances of join_sets are joined by speaker, in seconds; 0: none",
        AtLeast0,
    ] = 0.0
    join_sets: Annotated[list[str], "Sets without text whose utterances are joined"] = field(
        default_factory=list
    )
    code: Code = ""
    args: CodeArgs = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.min_s >= self.max_s:
            what = f"min_s ({self.min_s:g}) must be below max_s ({self.max_s:g})"
            raise UsageError(what, "format", "no utterance would be left to train on")
        if not self.speeds or len({f"{s:g}" for s in self.speeds}) < len(self.speeds):
            raise UsageError(f"each speed must stand once, not {self.speeds}", "format.speeds")


@dataclass
class Tokens:
    """Stage 4: the token list."""

    type: Annotated[str, "Kind of tokens", Limits(("bpe", "char", "word"))] = "bpe"
    size: Annotated[int, "Number of BPE pieces", AtLeast1] = 30
    model_type: Annotated[
        str, "Kind of sentencepiece model", Limits(("unigram", "bpe", "char", "word"))
    ] = "unigram"
    normalization: Annotated[
        str,
        "What sentencepiece does to text before splitting it; text is in Unicode NFC already",
        Limits(("identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")),
    ] = "identity"
    symbols: Annotated[list[str], "Symbols that stay one token, e.g. tags"] = field(
        default_factory=list
    )
    tagged: Annotated[
        bool, "char, word: every tag of the training texts (<city>) and > stay one token, too"
    ] = False
    also: Annotated[bool, "Learn from the texts of data.also as well: one list for all"] = False
    text: Annotated[str, "Further text file to learn from"] = ""
    file: Annotated[
        str, "Token list to use, a token on each line; bpe: a .model, or a list beside bpe.model"
    ] = ""
    code: Code = ""
    args: CodeArgs = field(default_factory=dict)


@dataclass
class Stream:
    """One input of ``model.forward``."""

    name: Annotated[str, "Name of the input: speech, text, ..."]
    file: Annotated[str, "File below the set's folder: wav.scp, text, ..."]
    type: Annotated[str, "How it is read: sound, text, npy, kaldi_ark, ... or module:object"]
    batch: Annotated[bool, "Its length counts for the size of batches"] = True


def speech_text() -> list[Stream]:
    return [Stream("speech", "wav.scp", "sound"), Stream("text", "text", "text")]


@dataclass
class ExtraData:
    """A second data stream, batched apart; its keys reach the model with the stream's name."""

    set: Annotated[FolderName, "The set"]
    streams: Annotated[list[Stream], "Its inputs"] = field(
        default_factory=lambda: [Stream("speech", "wav.scp", "sound")]
    )


@dataclass
class Phase:
    """One training: pretrain, midtrain and finetune are three of these."""

    config: Annotated[str, "ESPnet training configuration (YAML)"]
    task: Annotated[str, "asr, lm, or module:Class"] = "asr"
    args: Annotated[dict, "ESPnet training options over the configuration"] = field(
        default_factory=dict
    )
    init: Annotated[list[str], "Start from PHASE_OR_FILE[:SRC[:DST[:EXCLUDE]]]"] = field(
        default_factory=list
    )
    train: Annotated[str, "Training set; default: data.train"] = ""
    valid: Annotated[str, "Development set; default: data.valid"] = ""
    streams: Annotated[list[Stream], "Inputs of the model"] = field(default_factory=speech_text)
    extra_data: Annotated[dict[str, ExtraData], "Second data streams, by name"] = field(
        default_factory=dict
    )
    needs: Annotated[list[str], "Further files that the training reads"] = field(
        default_factory=list
    )
    tokens: Annotated[
        Tokens | None, "Token list of this phase, made of its training set; default: the recipe's"
    ] = None
    model: Annotated[
        str, "Checkpoint that the next phase and decoding take",
        Limits(pattern=r"[A-Za-z0-9_.-]+\.pth"),
    ] = "valid.acc.ave.pth"  # fmt: skip
    verify: Annotated[bool, "Check that stock ESPnet can load the result"] = True
    code: Code = ""


@dataclass
class Decode:
    """Stage 8: inference on each set."""

    method: Annotated[str, "greedy_ctc, beam, or module:function"] = "greedy_ctc"
    batch_s: Annotated[float, "Seconds of audio in a batch (greedy_ctc)", Limits(above=0)] = 60.0
    longest_s: Annotated[float, "Longer audio is cut at pauses, in seconds", AtLeast1] = 120.0
    args: Annotated[dict, "Options of ESPnet's Speech2Text (beam), or of `code`"] = field(
        default_factory=dict
    )
    sets: Annotated[list[str], "Sets to decode; default: data.valid and data.test"] = field(
        default_factory=list
    )
    code: Code = ""


@dataclass
class Score:
    """Stage 9: metrics, the run record, RESULTS.md."""

    metrics: Annotated[list[str], "Metrics of each set: wer, cer, ..., or module:object"] = field(
        default_factory=lambda: ["wer", "cer"]
    )
    code: Code = ""
    args: CodeArgs = field(default_factory=dict)


@dataclass
class Pack:
    """Stage 10: one archive of the model."""

    code: Code = ""
    args: CodeArgs = field(default_factory=dict)


@dataclass
class Results:
    """Settings of RESULTS.md."""

    planned: Annotated[
        dict, "The one comparison planned: {system: GROUP, against: GROUP, ablations: [GROUP], ...}"
    ] = field(default_factory=dict)
    compare: Annotated[
        dict, "What alone is compared, listed beforehand: {metrics: [...], sets: [...]}"
    ] = field(default_factory=dict)
    unlabelled: Annotated[
        list[str], "Phases that read no label of the task: the updates of the others are the budget"
    ] = field(default_factory=list)
    published: Annotated[list[dict], "Published figures with their source"] = field(
        default_factory=list
    )


@dataclass
class Recipe:
    """The top level of recipe.yaml.

    Attributes:
        notes: What to tell of how it was read.
        left_out: Phases of the file that an option switched off.
    """

    extends: Annotated[str, "Another recipe.yaml, whose values hold where none is given here"] = ""
    preset: Annotated[str, "One of presets; it names the experiment, too"] = ""
    presets: Annotated[dict[str, dict], "Named sets of options, NAME: {KEY: VALUE}"] = field(
        default_factory=dict
    )
    recipe: Annotated[str, "corpus/method, e.g. an4/asr1"] = ""
    title: Annotated[str, "One line on what the recipe does"] = ""
    name: Annotated[str, "Experiment: everything from stage 5 on is in exp/<name>"] = "base"
    group: Annotated[str, "Experiments that differ by seed only share it; default: name"] = ""
    seed: Annotated[int, "Seed of the training", Limits(at_least=0, at_most=2**32 - 1)] = 1
    expect: Annotated[dict, "What to expect: time, score, hardware"] = field(default_factory=dict)
    corpus: Annotated[Corpus, "Where the corpus comes from"] = field(default_factory=Corpus)
    data: Annotated[Data, "Names of the sets"] = field(default_factory=Data)
    args: Annotated[dict, "ESPnet training options of all phases"] = field(default_factory=dict)
    prepare: Annotated[Prepare | None, "Stage 1"] = field(default_factory=Prepare)
    format: Annotated[Format | None, "Stage 2"] = None
    align: Annotated[dict | None, "Stage 3: options of the aligner"] = None
    tokens: Annotated[Tokens | None, "Stage 4"] = None
    pretrain: Annotated[Phase | None, "Stage 5: training phase 1"] = None
    midtrain: Annotated[Phase | None, "Stage 6: training phase 2"] = None
    finetune: Annotated[Phase | None, "Stage 7: training phase 3, the final model"] = None
    decode: Annotated[Decode | None, "Stage 8"] = None
    score: Annotated[Score | None, "Stage 9"] = None
    pack: Annotated[Pack | None, "Stage 10: one archive of the model"] = None
    results: Annotated[Results, "Settings of RESULTS.md"] = field(default_factory=Results)

    notes = ()  # no keys: not annotated
    left_out = ()

    @property
    def phases(self) -> dict[str, Phase]:
        """The training phases that there are, by name and in their order."""
        return {name: p for name in PHASES if (p := getattr(self, name)) is not None}
