"""Imports point one way: a later stage may import an earlier one, never the reverse."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recbole_llmtrsr

PACKAGE = Path(recbole_llmtrsr.__file__).parent
NAME = PACKAGE.name

# From the ground up; stages on one line know nothing of each other.
STAGES = (
    ("", "errors", "file_digest", "network"),
    ("division", "gradient_sum"),
    ("processes",),
    ("whole_file", "thoughts"),
    ("options", "free_options", "host_options", "chat", "plain_text", "checkpoints"),
    ("compat", "settings", "history", "metric_names"),
    ("data",),
    ("config_checks", "options_page"),
    ("config",),
    ("evaluation", "llm", "prompt", "retrieval", "resume", "host_faults"),
    ("summarizer", "model"),
    ("trainer",),
    ("registry",),
    ("explain", "summaries", "probes", "report", "rerank", "run_data", "result_folder"),
    ("final_test", "training", "recommend", "rehearsal"),
    ("pipeline", "serve"),
    ("quick_start",),
    ("__main__",),
)
LEVEL = {stage: level for level, stages in enumerate(STAGES) for stage in stages}


def module_name(path: Path) -> str:
    parts = [NAME, *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str) -> set[str]:
    """All modules that a module's text imports, at any depth of its code; relative imports are resolved."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            # 'from package import module' imports the module.
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    return {found for found in imports(name) if found == NAME or found.startswith(f"{NAME}.")}


def stage(name: str) -> str:
    return f"{name}.".split(".")[1]


def test_every_module_has_a_stage_and_every_stage_a_module():
    assert {stage(name) for name in FILES} == set(LEVEL)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_only_its_own_stage_and_earlier_ones(name):
    upwards = {
        found
        for found in own_imports(name)
        if stage(found) != stage(name) and LEVEL[stage(found)] >= LEVEL[stage(name)]
    }
    assert upwards == set()


def test_modules_import_each_other_in_no_circle():
    graph = {name: own_imports(name) - {name} for name in FILES}
    assert set(TopologicalSorter(graph).static_order()) == set(FILES)


@pytest.mark.parametrize("name", ["checkpoints", "compat", "options", "settings", "history"])
def test_the_ground_imports_nothing_of_ours_but_what_lies_below_it(name):
    assert own_imports(f"{NAME}.{name}") <= {
        f"{NAME}.{earlier}"
        for earlier in ("errors", "file_digest", "processes", "whole_file", "options", "checkpoints")
    }


@pytest.mark.parametrize("name", ["errors", "options", "settings", "history"])
def test_the_ground_is_light(name):
    foreign = {found.split(".")[0] for found in imports(f"{NAME}.{name}")} - {NAME}
    assert foreign <= sys.stdlib_module_names


def test_the_command_line_is_light_until_it_runs():
    tree = ast.parse(FILES[f"{NAME}.__main__"].read_text(encoding="utf-8"))
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in top if name != f"{NAME}.errors"} <= sys.stdlib_module_names


def test_a_model_knows_nothing_of_writers_and_a_writer_nothing_of_models():
    for name in FILES:
        if stage(name) in ("model", "trainer"):
            assert not any(stage(found) == "summarizer" for found in own_imports(name)), name
        if stage(name) == "summarizer":
            assert not any(stage(found) == "model" for found in own_imports(name)), name
