"""Several workers under one command, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core_tables.cli.output import EXIT_LANE_STOPPED, EXIT_OK
from core_tables.cli.probe_client import ProcessProbes
from core_tables.consumer.http_server import HttpServer
from core_tables.settings.forms import HttpAddress

LOOK_S: Final = 0.1
HEALTH_FILE: Final = "CORE_TABLES_HEALTH_FILE"
HTTP: Final = "CORE_TABLES_HTTP"


def run_workers(count: int, arguments: Sequence[str], log: Any, http: HttpAddress | None = None) -> int:
    """Run `count` workers until all of them have ended; return the first exit code that is not 0.

    With `http`, worker 1 listens on the next port, and so on; the address itself answers the probes for all of them.

    Kafka's consumer group shares the lanes among them. If one dies, the others are ended too, so that a supervisor restarts
    the whole command. If all lanes of one have stopped, the others keep running, since their lanes are fine.
    """
    _remove_old_health_files(count)
    command = [sys.executable, "-m", "core_tables.cli.main", "worker", *arguments]
    # In sessions of their own, so that Ctrl-C reaches them once, through this process.
    numbers: dict[subprocess.Popen[bytes], int] = {}
    if http is not None:
        running_at = lambda: [http._replace(port=http.port + number) for number in list(numbers.values())]  # noqa: E731
        HttpServer(http.host, http.port, ProcessProbes(running_at).pages())  # until the process ends
    for number in range(1, count + 1):
        child = subprocess.Popen(command, start_new_session=True, env=_environment(number, http))
        numbers[child] = number
    running = list(numbers)

    def end_all(*_: object) -> None:
        for child in running:
            child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, end_all)
    signal.signal(signal.SIGINT, end_all)
    log.info("workers_started", pids=[child.pid for child in running])
    code = EXIT_OK
    while running:
        for child in [child for child in running if child.poll() is not None]:
            running.remove(child)
            del numbers[child]
            log.info("worker_ended", pid=child.pid, exit_code=child.returncode)
            code = code or (child.returncode if child.returncode >= 0 else 128 - child.returncode)
            if child.returncode not in (EXIT_OK, EXIT_LANE_STOPPED):
                end_all()
        time.sleep(LOOK_S)
    return code


def _environment(number: int, http: HttpAddress | None) -> dict[str, str]:
    """The environment of this process, with a health file and a port for each worker."""
    environment, file = dict(os.environ), os.environ.get(HEALTH_FILE)
    if file is not None:
        environment[HEALTH_FILE] = f"{file}.{number}"
    if http is not None:
        environment[HTTP] = str(http._replace(port=http.port + number))
    return environment


def _remove_old_health_files(count: int) -> None:
    """Remove health files with higher numbers. An earlier command had more workers, and one that was killed left its file."""
    file = os.environ.get(HEALTH_FILE)
    if file is not None:
        for path in Path(file).parent.glob(f"{Path(file).name}.*"):
            number = path.name.rpartition(".")[2]
            if number.isdecimal() and int(number) > count:
                path.unlink(missing_ok=True)
