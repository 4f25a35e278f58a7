from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recbole_llmtrsr.runtime import device as module
from recbole_llmtrsr.runtime.device import (
    device_name,
    matrix_product_peak,
    peak_memory_bytes,
    reset_peak_memory,
    warn_of_other_programs,
)

CPU = torch.device("cpu")
MIB = 2**20
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="high-water marks are reset on Linux alone")
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def test_a_processor_is_named_with_its_threads():
    assert device_name(CPU).endswith(f", {torch.get_num_threads()} threads")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_a_number_and_leaves_the_dice_as_they_lie(dtype):
    before = torch.get_rng_state()
    peak = matrix_product_peak(CPU, dtype)
    assert peak > 1e8
    assert torch.equal(torch.get_rng_state(), before)


def test_the_peak_is_twice_the_cube_of_the_size_over_the_shortest_time(monkeypatch):
    # begin; asked 0.00 s on; a product of 4 s; asked 0.05 s on; one of 2 s; asked 0.10 s on
    ticks = iter([0.0, 10.0, 14.0, 0.05, 20.0, 22.0, 0.10])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(module, "_PRODUCT_SIZE_ELSEWHERE", 10)
    assert matrix_product_peak(CPU, torch.float32) == 2 * 10**3 / 2.0


@needs_linux
def test_the_peak_of_memory_rises_with_what_is_held_and_falls_with_a_reset():
    assert reset_peak_memory(CPU) == "whole process"
    begin = peak_memory_bytes(CPU)
    held = b"x" * (128 * MIB)
    full = peak_memory_bytes(CPU)
    assert full - begin >= 120 * MIB
    del held
    assert peak_memory_bytes(CPU) >= full - MIB
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) <= full - 100 * MIB


@pytest.mark.parametrize(("system", "unit"), [("freebsd", 1024), ("darwin", 1)])
def test_where_marks_cannot_be_reset_the_peak_is_that_of_the_process(monkeypatch, system, unit):
    monkeypatch.setattr(module, "_CLEAR", Path("/nowhere/clear_refs"))
    monkeypatch.setattr(module, "_STATUS", Path("/nowhere/status"))
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3000))
    assert reset_peak_memory(CPU) == "whole process, since it began"
    assert peak_memory_bytes(CPU) == 3000 * unit


def test_on_a_gpu_the_peak_is_that_of_its_tensors(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 * MIB)
    gpu = torch.device("cuda", 1)
    assert reset_peak_memory(gpu) == "tensors on the device"
    assert calls == [gpu]
    assert peak_memory_bytes(gpu) == 5 * MIB


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_gpu)])
def test_a_real_gpu_is_named_and_measured(device):
    gpu = torch.device(device)
    assert device_name(gpu) == torch.cuda.get_device_name()
    assert matrix_product_peak(gpu, torch.bfloat16) > 1e12
    reset_peak_memory(gpu)
    begin = peak_memory_bytes(gpu)
    held = torch.empty(64 * MIB, dtype=torch.uint8, device=gpu)
    assert peak_memory_bytes(gpu) - begin == held.numel()


def test_a_device_without_room_for_the_measurement_has_no_peak(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "randn", full)

    assert matrix_product_peak(CPU, torch.float32) is None


@pytest.mark.parametrize(
    ("load", "n_threads", "is_warned"), [(1.2, 2, True), (0.3, 2, False), (1.2, 1, False), (5.0, 4, True)]
)
def test_other_programs_on_too_few_cores_are_warned_of_once(monkeypatch, caplog, load, n_threads, is_warned):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2 if n_threads < 4 else 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    warn_of_other_programs.cache_clear()

    warn_of_other_programs()
    warn_of_other_programs()

    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == is_warned
    assert not warned or f"other programs used {load:.1f} of " in warned[0]
