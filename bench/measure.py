"""CPU time and memory of processes, and how busy the machine is."""

import os
import platform
from pathlib import Path
from typing import NamedTuple

import psutil


class Cpu(NamedTuple):
    """Seconds of CPU used so far."""

    worker: float
    postgres: float
    kafka: float
    redis: float

    def since(self, before: "Cpu") -> "Cpu":
        """What was used between two looks."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


def cpu_of(pid: int, *, children: bool) -> float:
    """The CPU seconds of a process; with `children`, of those that run and of those that ended too."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    used = times.user + times.system
    if not children:
        return float(used)
    used += times.children_user + times.children_system
    return float(used + sum(cpu_of(child.pid, children=True) for child in process.children()))


def peak_memory_mb(pid: int) -> float:
    """The most memory that a process, or one of its children, ever had in use, in MB (VmHWM)."""
    return max(_peak_mb(pid), *(_peak_mb(child.pid) for child in psutil.Process(pid).children()), 0.0)


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine() -> dict[str, str]:
    """What the run ran on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total >> 30
    return {
        "cpu": f"{psutil.cpu_count()} x {model}",
        "memory": f"{memory} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def load() -> float:
    """The machine's load average of the last minute."""
    return os.getloadavg()[0]
