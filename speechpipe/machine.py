"""What the operating system says of processes and of the machine."""

import psutil


def rss_mb(pid: int) -> float:
    """Resident memory of a process; 0 once it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0


def cpu_s(pid: int) -> float:
    """CPU time that a process has used; 0 once it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def stolen_s() -> float:
    """CPU seconds that were wanted here and given to other machines of the same host, since the start (Linux)."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))
