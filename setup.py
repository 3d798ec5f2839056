"""Distribution `fairseq-seqvae`: the package `fairseq_seqvae`, which is also the `--user-dir` of fairseq's commands."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Return `__version__` of the package without importing it: an import needs torch, which may not be there yet."""
    source = (ROOT / "fairseq_seqvae" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if match is None:
        raise RuntimeError('fairseq_seqvae/__init__.py has no line `__version__ = "..."`')
    return match.group(1)


def read_readme() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


MELODY = ["mido>=1.3", "abcnotes>=0.1,<0.2"]
PLOT = ["matplotlib>=3.6"]
CARD = [*PLOT, "scipy>=1.8"]
FIT = ["scikit-learn>=1.1"]
DOCS = ["mkdocs>=1.6,<2", "mkdocstrings[python]>=1.0"]

setup(
    name="fairseq-seqvae",
    version=read_version(),
    description="SeqVAE for fairseq: a recurrent variational autoencoder of sequences, trained with policy gradient",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    author="fairseq_seqvae contributors",
    license="MIT",
    license_files=["LICENSE", "NOTICE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["fairseq_seqvae", "fairseq_seqvae.*"]),
    include_package_data=False,
    package_data={"fairseq_seqvae.melody.studio": ["page/*", "model/*/*"]},
    zip_safe=False,  # fairseq wants `--user-dir` to be a folder
    python_requires=">=3.10,<3.13",
    install_requires=[
        # Two distributions of one import name. 0.12.2 does not import on Python 3.11 and later; ve-fairseq, a community
        # build of fairseq's main branch, has wheels for 3.11 and 3.12 only. pip 24.1 and later refuse the metadata of
        # the omegaconf that fairseq 0.12.2 asks for.
        've-fairseq==0.12.3; python_version >= "3.11"',
        'fairseq==0.12.2; python_version < "3.11"',
        "torch>=2.0",  # the oldest that the tests were run with
        "numpy>=1.21.3,<2",  # fairseq reaches into np.compat, which numpy 2 does not have
        "hydra-core>=1.0.7",  # fairseq narrows this: <1.1 for 0.12.2, >=1.3.2 for ve-fairseq
        "sacrebleu>=1.4.12",
        "sentencepiece>=0.1.96",
    ],
    extras_require={
        "melody": MELODY,
        "studio": MELODY,  # its server and its page need nothing else
        "plot": PLOT,
        "card": CARD,
        "fit": FIT,
        "docs": DOCS,
        "dev": [
            "pytest>=7",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "ruff>=0.6",
            "mypy>=1.10",
            "tensorboard>=2.10",
            "psutil>=5.9",
            "setuptools>=70.1",  # builds the wheel that a test looks into
            "playwright>=1.40",  # drives a browser that is there; it brings none
            *MELODY,
            *CARD,
            *FIT,
            *DOCS,
        ],
    },
)
