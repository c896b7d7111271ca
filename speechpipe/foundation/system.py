"""What the operating system says of processes and of the machine."""

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator, Mapping

import psutil

UNKNOWN = (psutil.Error, OSError)
"""What asking about a process raises: it is gone, or no descriptor is left to ask with."""


def rss_mb(pid: int) -> float:
    """Resident memory of a process; 0 once it is gone, or if it cannot be asked now."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except UNKNOWN:
        return 0.0


def cpu_s(pid: int) -> float:
    """CPU time that a process has used; 0 once it is gone, or if it cannot be asked now."""
    try:
        times = psutil.Process(pid).cpu_times()
    except UNKNOWN:
        return 0.0
    return float(times.user + times.system)


def stolen_s() -> float:
    """CPU seconds that were wanted here and given to other machines of the same host, since the start (Linux)."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def one_algebra_thread() -> None:
    """Keep numpy's algebra on one thread, here and in children; before numpy is imported.

    The systems of equations here are small: threads would wait for each other, and take the CPU from the recognizers.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


LARGE_BYTES = 2**20
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>


def give_back_large_blocks() -> None:
    """Give memory blocks of 1 MiB and more back to the system as soon as they are free, where the C library can.

    glibc does so by itself until the first large block is freed; from then on it keeps blocks of up to 32 MiB, in a
    heap for each thread, and a server to which large bodies were sent stays as large as the worst moment made it
    (mallopt(3), M_MMAP_THRESHOLD).
    """
    with contextlib.suppress(OSError, AttributeError):  # another system, another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


@contextlib.contextmanager
def giving_way(wanted: bool) -> Iterator[None]:
    """Work at the lowest priority for a while, where this process may come back from it (Linux, root)."""
    if not wanted or sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


NOBODY_ELSE = 20
"""One step below the lowest nice value: only what nobody else wants."""


def give_way(nice: int) -> None:
    """Lower this process's priority; at `NOBODY_ELSE` it runs when nobody else wants the CPU (SCHED_IDLE, Linux)."""
    os.nice(min(nice, 19))
    if nice >= NOBODY_ELSE and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


_FOR_CHILDREN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|VIRTUAL_ENV"
    r"|(LC|LD|DYLD|PYTHON|XDG|CUDA|NVIDIA|HIP|ROCR|TORCH|PYTORCH|HF|TRANSFORMERS|CT2|ORT|OMP|KMP|MKL|OPENBLAS|NUMEXPR"
    r"|GOTO|MALLOC|GLIBC|COV|COVERAGE)_?[A-Z0-9_]*"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH")


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process that gets everything else it must know from its parent.

    What the interpreter and numerical libraries read is handed on. Settings of this server are not, among them keys,
    passwords and addresses with passwords in them, nor anything else whose name is not known here.
    """
    known = {
        name: value for name, value in os.environ.items() if _FOR_CHILDREN.fullmatch(name) and not _SECRET.search(name)
    }
    return {**known, **more}


def stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal (SIGSTOP), so that it does nothing until it is continued."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except UNKNOWN:
        return False
