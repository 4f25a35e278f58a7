"""Bad input at the command line: exit code 2, a message with value, what is accepted and remedy, nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llmtrsr.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def refused(tmp_path, atomic_folder, monkeypatch, capsys):
    """Runs the command line with flags that must be refused; gives its messages."""
    monkeypatch.chdir(tmp_path)
    usual = {"--model": "Pop", "--dataset": "tiny", "--data_path": str(atomic_folder), "--use_gpu": "False"}

    def run(*flags: str) -> list[str]:
        named = {flag.split("=")[0] for flag in flags}
        arguments = [*(f"{name}={value}" for name, value in usual.items() if name not in named), *flags]
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        return [line.removeprefix("error: ") for line in lines]

    return run


def left_behind(folder: Path) -> set[str]:
    """Files below a folder that a run made, but for its log."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("data/", "log/", "log_tensorboard/"))}


BEFORE_ANY_WORK = {
    "unknown model": (
        ["--model=SASRek"],
        "model 'SASRek' is neither one of this package (LLMTRSR, TALLRec, HLLM, LiteLLM4Rec, LLMSeqSim) nor one of"
        " RecBole's 93 models; did you mean 'SASRec'?",
    ),
    "unknown second model": (["--model=Pop,Poop"], "model 'Poop' is neither one of"),
    "no model": (["--model=,"], "no model is named: pass --model=<name>, or several as --model=LLMTRSR,SASRec"),
    "unknown data set": (["--dataset=nope"], "dataset 'nope': no nope.inter in"),
    "no block": (["--block_size=0"], "block_size must be >= 1, got 0"),
    "no block for one model": (["--model=Pop,LLMTRSR", "--LLMTRSR.block_size=0"], "block_size must be >= 1, got 0"),
    "misspelt option": (["--epocs=3"], "option 'epocs' does not exist; did you mean 'epochs'?"),
    "abbreviated flag": (["--mod=BPR"], "option 'mod' does not exist; did you mean 'model'?"),
    "spaces around =": (["--epochs", "3"], "argument '--epochs' is not understood: write options as --name=value"),
    "stray word": (["epochs=3"], "argument 'epochs=3' is not understood"),
    "unknown metric": (["--metrics=['Recal']"], "There is no metric named 'Recal'"),
    "a variant that climbs": (["--model=Pop@../../evil"], "the variant '../../evil' of Pop names a folder"),
    "a variant without a name": (["--model=Pop@"], "the variant '' of Pop names a folder"),
    "a data set that climbs": (
        ["--dataset=../tiny"],
        "dataset must be the name of a folder below data_path, got '../tiny'",
    ),
    "own template": (["--prompt_templates={'blok': 'x'}"], "unknown template 'blok': accepted are"),
    "result folder is a file": (
        ["--result_dir=data/tiny/tiny.inter"],
        "cannot be written: File exists; set result_dir",
    ),
    "candidate folder is a file": (["--candidate_dir=data/tiny/tiny.item"], "is a file, but candidate_dir wants"),
    "result folder below a file": (["--result_dir=data/tiny/tiny.inter/r"], "cannot be written: Not a directory"),
    "pickled data": (
        ["--dataset_save_path=x.pth"],
        "dataset_save_path: saved datasets are pickles, which are not loaded",
    ),
    "two pre-split files": (
        ["--benchmark_filename=['train','test']"],
        "benchmark_filename must be a list of three, such as [train, valid, test], got ['train', 'test']",
    ),
    "missing pre-split file": (
        ["--benchmark_filename=['a','b','c']"],
        "no tiny.a.inter, tiny.b.inter, tiny.c.inter in",
    ),
}


@pytest.mark.parametrize(("flags", "message"), BEFORE_ANY_WORK.values(), ids=BEFORE_ANY_WORK)
def test_options_are_refused_before_anything_is_made(refused, tmp_path, flags, message):
    faults = refused(*flags)
    assert message in faults[0]
    assert left_behind(tmp_path) == set()
    assert not (tmp_path / "results").exists()


DURING_LOADING = {
    "text column": (
        "--item_text_fields=['titel']",
        "has no column 'titel'; its columns are title, maker, price; did you mean 'title'?",
    ),
    "filters": (
        "--user_inter_num_interval=[50,inf)",
        "'tiny' is empty after filtering by {'user_inter_num_interval': '[50,inf)'}: loosen",
    ),
    "no times": ("--load_col={'inter': ['user_id', 'item_id']}", "events cannot be ordered: column 'timestamp'"),
    "too few items": ("--eval_args={'mode': 'uni20'}", "only 4 items remain to draw negatives from"),
    "no candidate": ("--eval_args={'mode': 'uni0'}", "mode 'uni0' has no negatives to rank the target against"),
}
FILES = {
    "no item file": ("tiny.item", None, "no item file"),
    "no line": ("tiny.inter", "user_id:token\titem_id:token\ttimestamp:float\n", "the .inter file has no usable line"),
    "bad header": ("tiny.inter", "user\titem\n1\t2\n", "its first line must give name:type for every column"),
}


@pytest.mark.parametrize(("flag", "message"), DURING_LOADING.values(), ids=DURING_LOADING)
def test_data_are_refused_before_anything_is_trained(refused, tmp_path, flag, message):
    flags = {"--eval_args": "--eval_args={'mode': 'uni2'}", flag.partition("=")[0]: flag}
    assert message in refused("--model=LLMTRSR", *flags.values())[0]
    assert left_behind(tmp_path) == set()


@pytest.mark.parametrize(("name", "content", "message"), FILES.values(), ids=FILES)
def test_files_are_refused_before_anything_is_trained(refused, tmp_path, name, content, message):
    file = tmp_path / "data" / "tiny" / name
    file.unlink() if content is None else file.write_text(content)
    assert message in refused("--model=LLMTRSR", "--eval_args={'mode': 'uni2'}")[0]
    assert left_behind(tmp_path) == set()


def test_a_changed_candidate_set_is_refused(refused, tmp_path):
    flags = ["--eval_args={'mode': 'uni2'}", "--model=LLMTRSR", "--max_prompt_tokens=16"]
    refused(*flags)
    saved = sorted((tmp_path / "saved" / "candidates").iterdir())
    assert [path.name.rsplit("-", 1)[0] for path in saved] == ["tiny-test-uni2", "tiny-valid-uni2"]
    saved[1].write_bytes(b"changed")
    assert "delete it to draw the candidates again" in refused(*flags)[0]


def test_a_budget_too_small_for_the_templates_is_refused(refused, tmp_path):
    faults = refused("--model=LLMTRSR", "--eval_args={'mode': 'uni2'}", "--max_prompt_tokens=20")
    assert "max_prompt_tokens: 20 is too small" in faults[0]
    assert "set it to at least" in faults[0]
    assert not [name for name in left_behind(tmp_path) if not name.startswith(("saved/candidates/", "saved/summaries"))]


SECRETS = [
    "--summarizer=openai:m@http://me:hush77@127.0.0.1:9/v1",
    "--summarizer=openai:m@me:hush77@host/v1",
    "--summarizer=openai:m@http://host/v1?api-key=hush77",
    "--summarizer=http://me:hush77@host/v1",
    "--summarizer_api_key_variable=sk-hush77",
]


@pytest.mark.parametrize("flag", SECRETS)
def test_what_may_be_a_secret_is_refused_unseen_before_anything_is_logged(flag, refused, tmp_path):
    faults = refused("--model=Pop,LLMTRSR", flag)
    assert "hush77" not in " ".join(faults)
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in written if "hush77" in text]


def test_a_summarizer_that_cannot_be_is_refused_before_another_model_trains(refused, tmp_path):
    assert "no file nowhere.jsonl" in refused("--model=Pop,LLMTRSR", "--summarizer=file:nowhere.jsonl")[0]
    assert "summarizer must be 'extractive'" in refused("--model=Pop,LLMTRSR", "--summarizer=OpenAI:m@http://h/v1")[0]
    assert left_behind(tmp_path) == set()


def test_help_comes_without_loading_torch():
    code = (
        "import sys; from recbole_llmtrsr.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "--config_files" in done.stdout


@pytest.mark.parametrize("name", ["run_recbole_llmtrsr.py", "-m recbole_llmtrsr"])
def test_both_ways_to_start_end_with_the_same_code_and_text(tmp_path, name):
    flags = ["--epochs", "3"]
    command = [str(ROOT / name)] if name.endswith(".py") else name.split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, *flags], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: argument '--epochs' is not understood")
    assert list(tmp_path.iterdir()) == []
