"""Install: pip install .

RecBole requires ray<=2.6.3, which cannot be installed on Python 3.12 or newer, and of which this package uses nothing.
There, install RecBole first, without its requirements: pip install --no-deps recbole==1.2.1. The requirements below
list what RecBole's data, model and trainer modules import, for both cases.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "recbole_llmtrsr" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)
SERVER = "openai>=1.99,<4"  # the client for summarizer: openai:<model>@<base url>
PARQUET = "pyarrow>=15"
QUANTIZED = "bitsandbytes>=0.48"  # for load_in: 8bit and 4bit; runs on CPUs too
GGUF = "gguf>=0.17"  # for models in GGUF files, such as backbone: smollm2
NOTEBOOK = ["nbclient>=0.10", "ipykernel>=6.29"]  # run examples/first_steps.ipynb
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.30"]
TUNING = "hyperopt>=0.2.7"  # for recbole-llmtrsr tune, which is RecBole's HyperTuning
SERVING = ["fastapi>=0.115", "uvicorn>=0.30", "prometheus-client>=0.20"]  # for recbole-llmtrsr serve
WANDB = "wandb>=0.17"  # for log_wandb: True
TEST = [
    "pytest>=8.2",
    "pytest-xdist>=3.6",
    "pytest-random-order>=1.1",
    "hypothesis>=6.100",
    QUANTIZED,
    GGUF,
    PARQUET,
    SERVER,
    TUNING,
    *SERVING,
    *NOTEBOOK,
]  # the tests also run the client against a real `transformers serve`

setup(
    name="recbole_llmtrsr",
    version=VERSION,
    description="LLM-TRSR for RecBole: text-rich sequential recommendation with large language models",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="The recbole_llmtrsr authors",
    keywords="recommender systems, sequential recommendation, large language models, LoRA, RecBole",
    project_urls={"RecBole": "https://recbole.io", "Paper": "https://doi.org/10.1145/3589334.3645358"},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    entry_points={"console_scripts": ["recbole-llmtrsr = recbole_llmtrsr.commands.dispatch:main"]},
    python_requires=">=3.10",
    packages=[*find_packages(include=["recbole_llmtrsr", "recbole_llmtrsr.*"]), "recbole_llmtrsr.properties"],
    package_dir={"recbole_llmtrsr.properties": "properties"},
    package_data={
        "recbole_llmtrsr.properties": ["*/*.yaml"],
        "recbole_llmtrsr": ["py.typed"],
        "recbole_llmtrsr.explain": ["*.html", "*.css"],
        "recbole_llmtrsr.report": ["*.html", "*.css"],
        "recbole_llmtrsr.recommend": ["*.md"],
    },
    install_requires=[
        "recbole==1.2.1; python_version < '3.12'",
        "torch>=2.6,<2.14",
        "transformers>=5.0,<6",
        "peft>=0.18",
        "accelerate>=1.10",
        "numpy>=1.26",
        "pyyaml>=5.1",
        "filelock>=3.12",
        "safetensors>=0.4",
        "jinja2>=3.1",
        # What recbole requires too, listed for Python versions on which its requirements cannot be met.
        "scipy>=1.11",
        "pandas>=2.1",
        "tqdm>=4.48",
        "colorlog==4.7.2",
        "colorama==0.4.4",
        "scikit-learn>=1.3",
        "tensorboard>=2.5",
        "thop>=0.1.1.post2207130030",
        "tabulate>=0.8.10",
        "plotly>=4.0",
        "texttable>=0.9",
        "psutil>=5.9",
    ],
    extras_require={
        "server": [SERVER],
        "quantized": [QUANTIZED],
        "gguf": [GGUF],
        "parquet": [PARQUET],
        "serving": SERVING,
        "docs": DOCS,
        "notebook": [*NOTEBOOK, "jupyterlab>=4", "ipywidgets>=8"],
        "tune": [TUNING],
        "tuning": [TUNING],  # its earlier name
        "wandb": [WANDB],
        "test": TEST,
        "dev": [
            *TEST,
            *DOCS,
            "ruff>=0.14",
            "mypy>=1.18",
            "types-PyYAML",
            "types-tqdm",
            "build",
            "pre-commit",
        ],
    },
)
