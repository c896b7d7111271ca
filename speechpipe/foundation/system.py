"""Operating system: memory, CPU time and priority of processes, and the environment of child processes."""

import contextlib
import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

UNKNOWN = (psutil.Error, OSError)
"""Raised by queries about a process: it has ended, or no file descriptor is left for the query."""


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended or cannot be queried."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except UNKNOWN:
        return 0.0


def peak_rss_mb(pid: int) -> float:
    """Return the most resident memory that a process has had, in MiB (Linux; elsewhere what it has now)."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
            return int(found[1]) / 1024
    return rss_mb(pid)


def machine() -> str:
    """Return what figures depend on: cores that may be used, processor, operating system, Python."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} cores ({processor or platform.machine()}), {name}, Python {platform.python_version()}"


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 if it has ended or cannot be queried."""
    try:
        times = psutil.Process(pid).cpu_times()
    except UNKNOWN:
        return 0.0
    return float(times.user + times.system)


def descendants(pid: int) -> dict[int, str]:
    """Return the command lines of the processes that a process started, and those started by them, by process id."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except UNKNOWN:
        return {}
    lines: dict[int, str] = {}
    for process in found:
        with contextlib.suppress(*UNKNOWN):
            lines[process.pid] = " ".join(process.cmdline())
    return lines


def stolen_s() -> float:
    """Return the CPU seconds since boot that the hypervisor gave to other machines (steal time; Linux, else 0)."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def one_algebra_thread() -> None:
    """Limit numpy's linear algebra to one thread, in this process and its children. Call before numpy is imported.

    The systems of equations here are small: more threads would not be faster, and would take CPU from the recognizers.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


LARGE_BYTES = 2**20
MOST_HEAPS = 2
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of <malloc.h>


def bound_heaps() -> None:
    """Keep the C library from holding memory that is free (glibc; elsewhere nothing happens). Call it early.

    Blocks of 1 MiB and more are returned to the system as soon as they are free: otherwise glibc keeps blocks of up to
    32 MiB once the first one was freed. All threads share two heaps instead of eight for each core. Without both, a
    server stays as large as its worst moment (mallopt(3), M_MMAP_THRESHOLD and M_ARENA_MAX).
    """
    with contextlib.suppress(OSError, AttributeError):  # another system, another C library
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        library.mallopt(_ARENA_MAX, MOST_HEAPS)


def trim_heap() -> None:
    """Give memory that is free back to the system (glibc's malloc_trim(3); elsewhere nothing happens)."""
    with contextlib.suppress(OSError, AttributeError):  # another system, another C library
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def giving_way(wanted: bool) -> Iterator[None]:
    """Run the block at the lowest priority if `wanted`, and if the priority can be raised again after (Linux, root)."""
    if not wanted or sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


IDLE_PRIORITY = 20
"""A value above the highest nice value (19): run only when no other process wants the CPU."""


def give_way(nice: int) -> None:
    """Lower this process's priority by `nice`; `IDLE_PRIORITY` also selects the idle scheduler (SCHED_IDLE, Linux)."""
    os.nice(min(nice, 19))
    if nice >= IDLE_PRIORITY and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
"""Environment of a process whose threads allocate little beside each other: they share one heap (glibc, mallopt(3))."""

_FOR_CHILDREN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|VIRTUAL_ENV"
    r"|(LC|LD|DYLD|PYTHON|XDG|CUDA|NVIDIA|HIP|ROCR|TORCH|PYTORCH|HF|TRANSFORMERS|CT2|ORT|OMP|KMP|MKL|OPENBLAS|NUMEXPR"
    r"|GOTO|MALLOC|GLIBC|COV|COVERAGE)_?[A-Z0-9_]*"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH")


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process: `more`, and what the interpreter and numerical libraries read.

    All other variables are left out, so that no key, password or URL with a password reaches a child.
    """
    known = {
        name: value for name, value in os.environ.items() if _FOR_CHILDREN.fullmatch(name) and not _SECRET.search(name)
    }
    return {**known, **more}


def tool_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a tool that the user has set up, such as pip: all of it, and `more`.

    This program's own settings and the hub's token are left out.
    """
    known = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("SPEECHPIPE_") and name != "HF_TOKEN"
    }
    return {**known, **more}


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal (SIGSTOP) and has not been continued."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except UNKNOWN:
        return False
