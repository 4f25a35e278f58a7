"""Measures speed and memory of a device."""

from __future__ import annotations

import os
import platform
import sys
import time
from functools import cache
from logging import getLogger
from pathlib import Path

import torch

_PRODUCT_SIZE = {"cuda": 8192}  # large enough to make the overhead of a kernel launch negligible
_PRODUCT_SIZE_ELSEWHERE = 512
_PRODUCT_SECONDS = 0.1
BUSY = 0.75  # cores that others use before they count
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux only


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor with the number of threads that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def matrix_product_peak(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int] | None = None
) -> float | None:
    """Operations per second of a matrix product: the best result within 0.1 s, after a warm-up.

    Args:
        device: needs memory for three such matrices (8192 x 8192 on a GPU), so measure before loading a model.
        dtype: number format of the factors.
        shape: (n, k, m) of a product of n x k and k x m; None is square and large enough for the peak.

    Returns:
        the peak, or None if the device has too little free memory.
    """
    n, k, m = shape or (_PRODUCT_SIZE.get(device.type, _PRODUCT_SIZE_ELSEWHERE),) * 3
    generator = torch.Generator(device).manual_seed(0)  # so that the measurement does not change the run's randomness
    try:
        left = torch.randn(n, k, device=device, generator=generator).to(dtype)
        # A square is multiplied by itself, which takes the memory of one factor.
        right = left if shape is None else torch.randn(k, m, device=device, generator=generator).to(dtype)
        left @ right
        synchronize(device)
        begin, best = time.perf_counter(), float("inf")
        while best == float("inf") or time.perf_counter() - begin < _PRODUCT_SECONDS:
            start = time.perf_counter()
            left @ right
            synchronize(device)
            best = min(best, time.perf_counter() - start)
    except torch.OutOfMemoryError:  # not a reason to end a run
        return None
    return 2 * n * k * m / best


@cache
def warn_of_other_programs() -> None:
    """Warn once if other programs leave too few cores for the threads of this one, which then wait for each other.

    The load is the mean over the last minute, so call it before this process computes.
    """
    n_cores, n_threads = os.cpu_count() or 1, torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if n_threads > 1 and load >= BUSY and load + n_threads > n_cores + BUSY:
        getLogger().warning(
            f"in the last minute, other programs used {load:.1f} of {n_cores} cores. If they still run, the {n_threads}"
            " threads of this one wait for each other and take several times as long: set"
            f" OMP_NUM_THREADS={max(1, int(n_cores - load))}"
        )


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> str:
    """Reset the peak of memory use, where the system allows it.

    On Linux the reset applies to every program that reads the peak of this process, not only to this one.

    Returns:
        what ``peak_memory_bytes`` measures from now on.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return "tensors on the device"
    try:
        _CLEAR.write_text("5")
    except OSError:
        return "whole process, since it began"
    return "whole process"


def peak_memory_bytes(device: torch.device) -> int | None:
    """The peak of memory use since the last reset; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
