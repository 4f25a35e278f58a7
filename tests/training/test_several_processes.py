"""Two processes end with what one ends with, to the last digit."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.summarizer.store.store import SummaryStore

ROOT = Path(__file__).parents[2]
MORE = {
    "also_test": ["pop3"],
    "ablations": True,
    "report": True,
    "checkpoint_minutes": None,
    "LLMTRSR.epochs": 2,
    "HLLM.epochs": 1,
    "show_progress": True,
    "state": "INFO",
}

LORA = {"builtin_hidden_size": 128, "builtin_n_layers": 2, "tune": "lora", "lora_dropout": 0.4}
DIVIDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def _places(folder: str) -> dict[str, Any]:
    return {"result_dir": folder, "summary_store": f"{folder}.sqlite", "checkpoint_dir": f"{folder}-saved"}


def _but_for_processes(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, without how many processes there were and where a retriever's checkpoint lies."""
    for result in found.values():
        if isinstance(result, dict) and "options" in result:
            del result["processes"], result["options"]["gradient_shards"]
            result["options"].pop("retriever")
            for name in ("retriever_checkpoint", "retriever_digest"):
                result.get("reranking", {}).pop(name, None)
    return found


@pytest.mark.parametrize(
    ("rows_per_batch", "more"),
    [
        # Two histories with their candidates in a batch, one for each process.
        (6, {}),
        # 31 of 32 histories in a batch, of up to two to a pass: the last batch leaves one process nothing.
        pytest.param(93, {"max_tokens_per_batch": 300, "LLMTRSR.epochs": 3}, marks=pytest.mark.slow),
        pytest.param(12, {"tune": "lora", "lora_dropout": 0.4, "LLMTRSR.learning_rate": 0.02}, marks=pytest.mark.slow),
        pytest.param(
            6,
            {"gradient_accumulation_steps": 3, "summary": "recurrent", "attention": "plain"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_have_the_results_of_one(rows_per_batch, more, tmp_path, options, nursery, errors, outcome):
    shared = {**options, **MORE, "train_batch_size": rows_per_batch, **more}
    assert nursery(["LLMTRSR"], {**shared, **_places("one"), "gradient_shards": 2}) == [0], errors()
    assert nursery(["LLMTRSR"], {**shared, **_places("two")}, n=2) == [0, 0], errors()
    found, expected = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert found["result.json"]["processes"] == 2
    assert expected["result.json"]["processes"] == 1
    assert _but_for_processes(found) == _but_for_processes(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        # Three batches of one history to a step: two passes of one process, one of the other.
        {"train_batch_size": 3, "gradient_accumulation_steps": 3, "max_tokens_per_batch": 300, "ablations": True},
        {"attention": "plain", "objective": "pointwise", "loss_on": "full"},
    ],
)
def test_divided_weights_give_the_results_of_whole_ones(more, tmp_path, options, nursery, errors, outcome):
    shared = {**options, **MORE, **LORA, "ablations": False, "report": False, "gradient_checkpointing": True, **more}
    assert nursery(["LLMTRSR"], {**shared, **_places("one"), "gradient_shards": 2}) == [0], errors()
    assert nursery(["LLMTRSR"], {**shared, **_places("two")}, n=2, environment=DIVIDED) == [0, 0], errors()
    found, expected = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert _but_for_processes(found) == _but_for_processes(expected)
    logs = "".join(path.read_text() for path in Path("log").rglob("*.log"))
    told = re.findall(r"FSDP shards ([\d.]+) MiB of frozen weights in 2 layers across 2 processes, ([\d.]+) MiB", logs)
    assert told == [("1.6", "0.8")]


def test_weights_that_cannot_be_divided_are_refused_before_summaries_are_written(options, nursery, errors):
    ends = nursery(["LLMTRSR"], {**options, **_places("out"), "tune": "all"}, n=2, environment=DIVIDED)
    assert 0 not in ends
    assert "tune: all freezes no weights of backbone 'builtin'" in errors()
    assert not Path("out.sqlite").exists()


@pytest.mark.slow
def test_models_that_cannot_be_divided_run_in_one_of_them_and_files_are_written_once(
    tmp_path, options, nursery, errors, outcome
):
    shared = {**options, **MORE, "LLMTRSR.retriever": "SASRec", "LLMTRSR.rerank_top_k": 4, "LLMTRSR.blend": None}
    shared |= {"eval_args": {"mode": "full"}, "exclude_seen": True, "also_test": [], "seeds": [1, 2]}
    models = ["SASRec", "HLLM", "LLMTRSR"]
    assert nursery(models, {**shared, **_places("one"), "gradient_shards": 2}) == [0], errors()
    logs = set(Path().glob("log*/*/*"))
    assert nursery(models, {**shared, **_places("two")}, n=2) == [0, 0], errors()
    found, expected = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert _but_for_processes(found) == _but_for_processes(expected)
    assert len(set(Path().glob("log*/*/*")) - logs) == len(logs)

    def files(folder: str) -> set[str]:
        names = {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}
        return {name.rpartition("-")[0] if "saved" in folder else name for name in names}

    assert files("two") == files("one")
    assert files("two-saved") == files("one-saved")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "environment", "kills"),
    [
        ({}, {}, [{"rank": 0, "states": 4}, {"rank": 1, "states": 9}, {"rank": 0, "states": 0}]),
        (LORA, DIVIDED, [{"rank": 1, "states": 9}]),
    ],
)
def test_two_processes_go_on_after_kills_to_the_same_end(
    more, environment, kills, tmp_path, options, nursery, errors, outcome, debris
):
    shared = {**options, "LLMTRSR.epochs": 4, "ablations": True, **more}
    undisturbed = {**shared, **_places("undisturbed"), "checkpoint_minutes": None}
    assert nursery(["LLMTRSR"], undisturbed, n=2, environment=environment) == [0, 0]
    resumed = {**shared, **_places("killed"), "checkpoint_minutes": 0, "resume": "auto"}
    for kill in kills:
        ends = nursery(["LLMTRSR"], resumed, {"model": "", "seconds": 0.002, **kill}, n=2, environment=environment)
        assert ends[kill["rank"]] == -signal.SIGKILL, errors()
        assert ends[1 - kill["rank"]] != 0
    assert nursery(["LLMTRSR"], resumed, n=2, environment=environment) == [0, 0], errors()
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "undisturbed")
    assert debris(tmp_path / "killed") == []


def test_two_processes_leave_the_store_of_one(options, nursery, errors):
    shared = {**options, "summarize_only": True, "block_size": 2}
    assert nursery(["LLMTRSR"], {**shared, **_places("one")}) == [0], errors()
    assert nursery(["LLMTRSR"], {**shared, **_places("two")}, n=2) == [0, 0], errors()

    def texts(folder: str) -> dict[bytes, str]:
        with SummaryStore(Path(f"{folder}.sqlite")) as store:
            return {entry.key: entry.answer.text for entry in store.records(store.keys())}

    assert texts("two") == texts("one")
    assert len(texts("one")) > 20
    assert Path("two/summaries.jsonl").read_bytes() == Path("one/summaries.jsonl").read_bytes()


@pytest.mark.slow
def test_a_launcher_starts_them_and_faults_are_told_once(options, warm_python, tmp_path):
    Path("fsdp.yaml").write_text(FSDP)
    launch = [warm_python, "-m", "accelerate.commands.launch", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={_free_port()}"]
    two = ["--multi_gpu", "--num_processes=2"]
    shared = {**options, **_places("out"), "epochs": 1, "state": "INFO"}

    def launched(how: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        flags = [f"--{name}={value}" for name, value in {**shared, **more}.items()]
        script = str(ROOT / "run_recbole_llmtrsr.py")
        command = [*launch, *how, script, "--model=LLMTRSR", "--dataset=toy", *flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    done = launched(["--config_file=fsdp.yaml"], tune="lora")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("results: out") == 1
    assert json.loads(Path("out/result.json").read_text())["processes"] == 4
    assert "layers across 4 processes" in "".join(path.read_text() for path in Path("log").rglob("*.log"))
    used = launched(two)  # a fault that the main process meets
    assert used.returncode != 0
    assert used.stderr.count("error: result_dir out holds results already") == 1, used.stderr[-3000:]
    wrong = launched(two, block_size=0)  # one that all of them meet
    assert wrong.returncode != 0
    assert wrong.stderr.count("error: block_size must be >= 1") == 1, wrong.stderr[-3000:]


@pytest.mark.slow
def test_what_one_process_meets_alone_is_told_once_and_ends_all(options, warm_python, tmp_path):
    """By a run in which RANK decides what goes wrong."""
    script = tmp_path / "run.py"
    script.write_text(FAULTY)
    launch = [warm_python, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={_free_port()}"]
    flags = [f"--{name}={value}" for name, value in {**options, "epochs": 1, "dataset": "toy"}.items()]

    def ended(fault: str, *more: str) -> str:
        command = [*launch, str(script), *flags, f"--result_dir={fault}", *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FAULT": fault}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode != 0
        return done.stderr

    # SASRec, which runs in the main process alone, and a table of LLMTRSR before it that takes its time.
    told = ended("sasrec", "--model=LLMTRSR,SASRec")
    assert told.count("error: SASRec went wrong") == 1, told[-3000:]
    assert Path("sasrec/comparison.json").is_file()
    told = ended("memory", "--model=LLMTRSR")  # in the second process's training
    assert told.count("error: training is out of memory in process 1 of 2") == 1, told[-3000:]
    assert "error: another process of this run ended" in told
    told = ended("data", "--model=LLMTRSR")
    assert told.count("error: process 1 differs from the main process in data files") == 1, told[-3000:]


FSDP = """
distributed_type: FSDP
num_processes: 4
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_offload_params: false
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_cpu_ram_efficient_loading: true
"""
FAULTY = """
import os, sys, time
import torch
from recbole_llmtrsr import __main__, quick_start
from recbole_llmtrsr.training import trainer
from recbole_llmtrsr.errors import UserError

__main__._SECONDS_TO_TELL = 3.0
fault, rank = os.environ["FAULT"], int(os.environ["RANK"])
if fault == "sasrec":
    run, write = quick_start.run_pipeline, quick_start.write_comparison
    def run_pipeline(config, *rest):
        if config.label == "SASRec":
            raise UserError("SASRec went wrong")
        return run(config, *rest)
    def write_comparison(*rest):
        time.sleep(3)
        write(*rest)
    quick_start.run_pipeline, quick_start.write_comparison = run_pipeline, write_comparison
elif fault == "memory" and rank == 1:
    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    trainer.LLMTRSRTrainer._backward_parts = no_room
elif fault == "data" and rank == 1:
    digests = quick_start.file_digests
    quick_start.file_digests = lambda config: {name: f"{digest}!" for name, digest in digests(config).items()}
sys.exit(__main__.main())
"""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
