"""CPU time and memory of processes, and how busy the machine is."""

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from core_tables.deploy import stack as local_stack


class Cpu(NamedTuple):
    """Seconds of CPU used so far."""

    worker: float
    postgres: float
    kafka: float
    redis: float

    def since(self, before: "Cpu") -> "Cpu":
        """What was used between two readings."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class StackCpu:
    """Reads the CPU time of a local stack's parts."""

    def __init__(self, folder: Path) -> None:
        self._pids = {part.name: part.pid for part in local_stack.status(folder)}

    def read(self, workers: Sequence[int]) -> Cpu:
        """What these processes and the parts have used so far."""
        parts = (cpu_of(self._pids[name] or 0) for name in ("postgres", "kafka", "redis"))
        return Cpu(sum(cpu_of(pid) for pid in workers), *parts)


class Measured(NamedTuple):
    """One run. CPU is microseconds per event; None is what was not measured."""

    events: int
    seconds: float
    events_per_s: float
    worker_us: float
    postgres_us: float
    kafka_us: float
    redis_us: float
    peak_mb: float | None
    load: float
    applied_s: float | None  # seconds until the tables had every event, if that was not yet the end of the run

    @classmethod
    def of(
        cls, events: int, seconds: float, used: Cpu, *, peak_mb: float | None = None, applied_s: float | None = None
    ) -> "Measured":
        """A run that took this time and used this CPU, which has just ended."""
        each = Cpu(*(1e6 * spent / events for spent in used))
        return cls(events, seconds, events / seconds, *each, peak_mb=peak_mb, load=load(), applied_s=applied_s)


def cpu_of(pid: int) -> float:
    """The CPU seconds of a process and its children, including those that have ended; 0 if it has ended itself."""
    while psutil.pid_exists(pid):
        # If a child ends meanwhile, its time becomes its parent's, so all are read again.
        with suppress(psutil.NoSuchProcess):
            return _used(psutil.Process(pid))
    return 0.0


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    used = times.user + times.system + times.children_user + times.children_system
    return float(used + sum(map(_used, process.children())))


def peak_memory_mb(pid: int) -> float:
    """The largest resident memory (VmHWM) that a process or one of its children has had, in MB."""
    return max(_peak_mb(pid), *(_peak_mb(child.pid) for child in psutil.Process(pid).children()), 0.0)


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine() -> dict[str, str]:
    """The machine of the run, and the interpreter, in words."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": f"{psutil.cpu_count()} x {models[0] if models else platform.processor()}",
        "memory": f"{psutil.virtual_memory().total >> 30} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def load() -> float:
    """The machine's load average of the last minute."""
    return os.getloadavg()[0]
