# SPDX-License-Identifier: Apache-2.0
"""What recipe.yaml may hold. Every field is an option of ``run.sh`` as ``--section.field``.

A section with ``code: package.module`` is done by that module (``plan(ctx)``, ``run(ctx, plan)``)
instead of the standard one in ``recipe/steps/``; ``args`` are its settings.
"""

from dataclasses import dataclass, field


@dataclass
class Corpus:
    """Where the corpus comes from; shown by ``--doctor`` and in errors."""

    name: str = ""
    env: str = ""  # environment variable with the path of an existing copy
    more_env: list[str] = field(default_factory=list)  # further such variables, which may be unset
    licence: str = ""
    source: str = ""  # where a user gets it
    size: str = ""
    layout: str = ""  # a path that must exist below the folder, to recognise it
    download: bool = False  # local/data.sh can fetch it itself


@dataclass
class Data:
    """Names of the folders below ``data/`` that local/data.sh makes."""

    train: str = "train"
    valid: str = "dev"
    test: list[str] = field(default_factory=lambda: ["test"])
    also: list[str] = field(default_factory=list)  # further training sets, e.g. unlabelled ones
    files: list[str] = field(default_factory=lambda: ["wav.scp", "text", "utt2spk"])  # of a set


@dataclass
class Prepare:
    script: str = "local/data.sh"
    args: list[str] = field(default_factory=list)
    disk_mb: int = 100


@dataclass
class Format:
    """Stage 2; durations in seconds."""

    fs: int = 16000
    min_s: float = 0.1
    max_s: float = 30.0
    speeds: list[float] = field(default_factory=lambda: [1.0])  # training set only
    audio_format: str = "flac"
    ctc_stride: int = 4  # feature frames (10 ms) per encoder frame, for CTC feasibility
    channel: int | None = None  # channel of the audio, counted from 0; none: the average
    allow_pipes: bool = False  # run the commands of piped wav.scp entries
    join_s: float = 0.0  # shorter utterances of join_sets are joined by speaker; 0: none
    join_sets: list[str] = field(default_factory=list)  # sets without text
    code: str = ""
    args: dict = field(default_factory=dict)


@dataclass
class Tokens:
    type: str = "bpe"  # bpe, char or word
    size: int = 30  # bpe only
    model_type: str = "unigram"  # sentencepiece model
    symbols: list[str] = field(default_factory=list)  # user-defined, e.g. tags
    text: str = ""  # further text file to learn from
    code: str = ""
    args: dict = field(default_factory=dict)


@dataclass
class Stream:
    """One input of ``model.forward``: ``file`` below the set's folder, read as ESPnet ``type``."""

    name: str
    file: str
    type: str
    batch: bool = True  # its length counts for the size of batches


def speech_text() -> list[Stream]:
    return [Stream("speech", "wav.scp", "sound"), Stream("text", "text", "text")]


@dataclass
class ExtraData:
    """A second data stream, batched apart; its keys reach the model with the stream's name."""

    set: str
    streams: list[Stream] = field(default_factory=lambda: [Stream("speech", "wav.scp", "sound")])


@dataclass
class Phase:
    """One training: pretrain, midtrain and finetune are three of these."""

    config: str  # ESPnet training configuration
    task: str = "asr"  # short name, or module:Class
    args: dict = field(default_factory=dict)  # any ESPnet training option
    init: list[str] = field(default_factory=list)  # PHASE_OR_FILE[:SRC[:DST[:EXCLUDE]]]
    train: str = ""  # default: data.train
    valid: str = ""
    streams: list[Stream] = field(default_factory=speech_text)
    extra_data: dict[str, ExtraData] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)  # further files that the training reads
    model: str = "valid.acc.ave.pth"  # the file that the next phase and decoding take
    verify: bool = True  # check that stock ESPnet can load the result


@dataclass
class Decode:
    method: str = "greedy_ctc"  # greedy_ctc, beam, or module:function
    batch_s: float = 60.0  # seconds of audio in a batch (greedy)
    longest_s: float = 120.0  # longer audio is cut at pauses
    args: dict = field(default_factory=dict)  # options of espnet2's Speech2Text (beam)
    sets: list[str] = field(default_factory=list)  # default: data.valid and data.test
    code: str = ""


@dataclass
class Score:
    metrics: list[str] = field(default_factory=lambda: ["wer", "cer"])
    code: str = ""
    args: dict = field(default_factory=dict)


@dataclass
class Results:
    baseline: str = ""
    published: list[dict] = field(default_factory=list)


@dataclass
class Recipe:
    recipe: str = ""  # corpus/method, e.g. an4/asr1
    title: str = ""
    name: str = "base"  # experiment: everything from stage 5 on lies in exp/<name>
    group: str = ""  # experiments that differ by seed only share a group; default: name
    seed: int = 1
    expect: dict = field(default_factory=dict)  # time, score, hardware: what to expect
    corpus: Corpus = field(default_factory=Corpus)
    data: Data = field(default_factory=Data)
    args: dict = field(default_factory=dict)  # ESPnet training options of all phases
    prepare: Prepare | None = field(default_factory=Prepare)
    format: Format | None = None
    align: dict | None = None
    tokens: Tokens | None = None
    pretrain: Phase | None = None
    midtrain: Phase | None = None
    finetune: Phase | None = None
    decode: Decode | None = None
    score: Score | None = None
    pack: dict | None = None
    results: Results = field(default_factory=Results)
