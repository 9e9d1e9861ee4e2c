"""The benchmark's command: it starts a stack of its own, measures, saves the results, and stops the stack.

`python -m bench` runs it with Core Tables alone. `python -m peers` adds the peers, and publishes the report.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from bench import compiled_build, results, sections, summary
from bench.contenders import Field
from bench.results import Results
from core_tables.cli import output
from core_tables.cli.formats import emit_rows
from core_tables.deploy import stack as local_stack
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.reasons import CoreTablesError

ROOT: Final = Path(__file__).parents[1]
QUICK_EVENTS: Final = 50_000
EVENTS: Final = 200_000

Publish = Callable[[Path, Results], None]
Check = Callable[[], None]


def command(
    program: str, field: Field, into: str, publish: Publish = lambda _into, _found: None, check: Check = lambda: None
) -> click.Command:
    """The command of `python -m <program>`.

    `check` runs first and raises SetupError for what is missing, `field` drains the load, `publish` writes a report into a folder.
    """

    @click.command()
    @click.option("--quick", is_flag=True, help="Some minutes: fewer events, one round, small sizes.")
    @click.option("--only", multiple=True, type=click.Choice(list(sections.SECTIONS)), help="One section. Repeatable.")
    @click.option(
        "--rounds", type=click.IntRange(1), help="Rounds of each section.  [default: 1 to 5, or 1 with --quick]"
    )
    @click.option(
        "--events", type=click.IntRange(1000), help="Events to drain.  [default: 200000, or 50000 with --quick]"
    )
    @click.option("--real-input", type=click.Path(path_type=Path, exists=True), help="Also drain this .jsonl.gz file.")
    @click.option("--stack", type=click.Path(path_type=Path), help="Use the local stack in this folder, not a new one.")
    @click.option(
        "--into", type=click.Path(path_type=Path), default=ROOT / into, help=f"Where results go.  [default: {into}]"
    )
    @click.option("--report-only", is_flag=True, help="Measure nothing; show the results of earlier runs.")
    def main(
        quick: bool, only: Sequence[str], rounds: int | None, events: int | None, real_input: Path | None,
        stack: Path | None, into: Path, report_only: bool,
    ) -> None:  # fmt: skip
        """Measure, save the results, and show the main ratios."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        file = into / "bench" / "results.json"
        failed = list[str]()
        chosen = list(only) or list(sections.SECTIONS)
        size = events or (QUICK_EVENTS if quick else EVENTS)
        times = f" --rounds {rounds}" if rounds else ""
        build = f"PYTHONPATH={compiled_build.FOLDER.relative_to(ROOT)} " if compiled_build.runs() else ""
        rerun = f"{build}python -m {program}{' --quick' if quick else ''} --only {{}}{times} --events {size}"
        try:
            check()
            if not report_only:
                compiled_build.check()
                with _stack(stack) as (addresses, folder):
                    plan = sections.Plan(addresses, folder, size, rounds, quick, real_input, field, _say)
                    failed = _measure(plan, chosen, file, rerun)
            found = results.load(file)
            publish(into, found)
            _show(found)
        except KeyboardInterrupt:
            output.err.print("stopped; the results of complete sections are saved")
            sys.exit(output.EXIT_INTERRUPTED)
        except CoreTablesError as error:
            output.fail(error)
        output.out.print(f"the results are in {into}", markup=False)
        if failed:
            output.err.print(f"failed: {', '.join(failed)}; their earlier results are kept", markup=False)
            sys.exit(output.EXIT_DEFECT)

    return main


def _measure(plan: sections.Plan, chosen: Sequence[str], file: Path, rerun: str) -> list[str]:
    """Run sections one by one and save each at once. Return the names of those that failed; the others still run."""
    failed, found = [], results.load(file)
    found["surroundings"] = results.surroundings(plan.stack)
    for number, name in enumerate(chosen, 1):
        started, load_average = time.monotonic(), os.getloadavg()
        try:
            with output.err.status(f"{name} ({number} of {len(chosen)})"):
                rows = sections.SECTIONS[name](plan)
        except Exception as error:
            _say(f"{name}: failed: {error!r}")
            failed.append(name)
            continue
        _say(f"{name}: {number} of {len(chosen)} done in {time.monotonic() - started:.0f} s")
        found["sections"][name] = results.section(rows, rerun.format(name), load_average, quick=plan.quick)
        results.save(file, found)
    return failed


def _show(found: Results) -> None:
    rows: list[Sequence[object]] = [
        (check.what, check.measured, check.target, ("yes" if check.holds else "no") if check.target else "")
        for check in summary.checks(found)
    ]
    emit_rows("main ratios", ("", "measured", "target", "met"), rows)


@contextmanager
def _stack(given: Path | None) -> Iterator[tuple[StackAddresses, Path]]:
    """A stack that is removed at the end. A given one is kept, and keeps running if it ran before."""
    if given is not None:
        ran = local_stack.addresses(given) is not None
        try:
            yield local_stack.up(given, _say), given
        finally:
            if not ran:
                local_stack.down(given, _say)
        return
    with tempfile.TemporaryDirectory(prefix="core-tables-bench-") as name:
        folder = Path(name)
        try:
            yield local_stack.up(folder, _say), folder
        finally:
            local_stack.down(folder, lambda _: None, wipe=True)


def _say(line: object) -> None:
    output.err.print(line, markup=False)
