"""Imports point one way: a later stage may import an earlier one, never the reverse."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recbole_llmtrsr

PACKAGE = Path(recbole_llmtrsr.__file__).parent
NAME = PACKAGE.name

# From the ground up; rooms on one line do not import one another. A room is a folder or a module of the package's root.
FLOORS = (
    ("", "errors"),
    ("runtime",),
    ("config",),
    ("data", "llm"),
    ("prompt", "engine", "evaluation", "retrieval"),
    ("summarizer", "model", "report", "training"),
    ("explain", "registry"),
    ("experiment",),
    ("recommend",),
    ("serve", "quick_start"),
    ("commands",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    parts = [NAME, *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str) -> set[str]:
    """All modules that a module's text imports, at any depth of its code; relative imports are resolved."""
    found = set()
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    if name == NAME:  # it names its lazy exports for type checkers alone
        tree.body = [
            one for one in tree.body if not (isinstance(one, ast.If) and "TYPE_CHECKING" in ast.unparse(one.test))
        ]
    for node in ast.walk(tree):
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


def room(name: str) -> str:
    return f"{name}.".split(".")[1]


def test_the_root_holds_entry_points_and_errors_alone():
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "quick_start.py",
        "registry.py",
    }


def test_every_module_stands_in_a_room_with_a_floor():
    assert {room(name) for name in FILES} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_only_its_own_room_and_lower_floors(name):
    upwards = {
        found for found in own_imports(name) if room(found) != room(name) and FLOOR[room(found)] >= FLOOR[room(name)]
    }
    assert upwards == set()


def test_modules_import_each_other_in_no_circle():
    graph = {name: own_imports(name) - {name} for name in FILES}
    assert set(TopologicalSorter(graph).static_order()) == set(FILES)


@pytest.mark.parametrize("name", ["errors", "config.options", "config.settings"])
def test_the_ground_is_light(name):
    foreign = {found.split(".")[0] for found in imports(f"{NAME}.{name}")} - {NAME}
    assert foreign <= sys.stdlib_module_names


@pytest.mark.parametrize(
    "arguments", [["run", "--help"], ["run", "--epocs=3"], ["export", "--help"], ["tune", "--help"], ["--version"]]
)
def test_the_command_line_is_light_until_it_runs(arguments):
    code = (
        f"import sys; from {NAME}.commands.dispatch import main\n"
        f"try: main({arguments})\n"
        "finally: assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


def test_the_architecture_page_names_every_room():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Rooms")[1]
    rooms = [f"{path.name}/" if path.is_dir() else path.name for path in PACKAGE.iterdir()]
    named = {room for room in rooms if room[0] not in "_." and not room.endswith(("__/", ".typed"))}
    assert {room for room in named if f"  {room} " not in page} == set()


def joints() -> list[tuple[str, str]]:
    """Every parameter but self and cls, every result and every field of a class, with its annotation."""
    found: list[tuple[str, ast.expr | None]] = []
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own = node.args
                given = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
                typed = [one for one in given if one.arg not in ("self", "cls")]
                found += [(f"{name}.{node.name}({one.arg})", one.annotation) for one in typed]
                found.append((f"{name}.{node.name} ->", node.returns))
            elif isinstance(node, ast.ClassDef):
                fields = (field for field in node.body if isinstance(field, ast.AnnAssign))
                found += [(f"{name}.{node.name}.{ast.unparse(field.target)}", field.annotation) for field in fields]
    return [(place, ast.unparse(annotation) if annotation else "") for place, annotation in found]


def test_at_most_two_in_a_hundred_joints_are_untyped():
    given = joints()
    untyped = [place for place, annotation in given if annotation in ("", "Any", "Any | None")]
    assert len(given) > 4000
    assert len(untyped) <= 0.02 * len(given), untyped
