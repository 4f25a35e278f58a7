from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import recbole_llmtrsr
from recbole_llmtrsr.data.candidates.__main__ import main
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file, write_candidate_file

ROWS = [("bob", 3, ["i2"], ["i9", "i1"]), ("ann", 10, ["z", "i2"], ["b"]), ("ann", 2, ["q"], [])]


@pytest.fixture
def file(tmp_path):
    made = CandidateFile.from_rows(ROWS)
    write_candidate_file(tmp_path / "set.npz", made)
    return made


def test_show_tells_counts_and_hash(tmp_path, file, capsys):
    assert main(["show", f"--source={tmp_path}/set.npz"]) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path}/set.npz: 3 rows of 2 users; 7 candidates (1 to 3 a row), 4 of them positive; 6 different items\n"
        f"hash {file.digest}\n"
    )


def test_export_and_import_keep_the_set(tmp_path, file, capsys):
    assert main(["export", f"--source={tmp_path}/set.npz", f"--out={tmp_path}/set.jsonl"]) == 0
    assert (tmp_path / "set.jsonl").read_text().splitlines()[0] == (
        '{"user": "ann", "n_events": 2, "positives": ["q"], "negatives": []}'
    )
    assert main(["import", f"--source={tmp_path}/set.jsonl", f"--out={tmp_path}/again.npz"]) == 0
    assert read_candidate_file(tmp_path / "again.npz").digest == file.digest
    assert capsys.readouterr().out.count(f"hash {file.digest}\n") == 2
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "set.npz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["show", "--source={}/none.npz"], "error: there is no candidate file {}/none.npz"),
        (["export", "--source={}/set.npz", "--out={}/set.csv"], "error: export: --out={}/set.csv must end in .jsonl"),
        (["import", "--source={}/set.npz", "--out={}/b.npz"], "error: import: --source={}/set.npz must end in .jsonl"),
        (["show", "--source={}/bad.jsonl"], "error: candidate file {}/bad.jsonl: line 1: not JSON"),
    ],
)
def test_a_fault_is_told_in_a_line(tmp_path, file, capsys, arguments, fault):
    (tmp_path / "bad.jsonl").write_text("x\n")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(fault.format(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "set.npz"]


def test_it_runs_as_a_module_without_torch_or_recbole(tmp_path, file):
    code = f"""
import runpy, sys
sys.argv[1:] = ["show", "--source={tmp_path}/set.npz"]
try:
    runpy.run_module("recbole_llmtrsr.data.candidates", run_name="__main__")
except SystemExit as end:
    sys.exit(end.code or sum(heavy in sys.modules for heavy in ("torch", "recbole", "transformers")))
"""
    folder = Path(recbole_llmtrsr.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith(f"hash {file.digest}\n")
