"""The benchmark's command: `python -m bench`. It starts a stack of its own, measures, writes the report, and stops the stack."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click

from bench import results, sections, summary
from bench.results import Results
from core_tables.cli import output
from core_tables.deploy import stack as local_stack
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.reasons import CoreTablesError, SetupError

ROOT: Final = Path(__file__).parents[1]
QUICK_EVENTS: Final = 50_000
EVENTS: Final = 200_000


@click.command()
@click.option("--quick", is_flag=True, help="Under three minutes: fewer events, one round, the main ratios only.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(sections.SECTIONS)), help="These sections; may be repeated."
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each section, in turn; 1 if quick, otherwise 3.")
@click.option(
    "--events", type=click.IntRange(1000), help=f"Events to drain; {QUICK_EVENTS} if quick, otherwise {EVENTS}."
)
@click.option("--real-input", type=click.Path(path_type=Path, exists=True), help="JSON lines, gzipped, to drain too.")
@click.option(
    "--stack", "stack_dir", type=click.Path(path_type=Path), help="A local stack's folder, instead of a new one."
)
@click.option(
    "--into", type=click.Path(path_type=Path), default=ROOT / "docs", help="Folder of the report.  [default: docs]"
)
@click.option("--report-only", is_flag=True, help="Write the report from the results there are.")
def main(
    quick: bool,
    only: Sequence[str],
    rounds: int | None,
    events: int | None,
    real_input: Path | None,
    stack_dir: Path | None,
    into: Path,
    report_only: bool,
) -> None:
    """Measure, write BENCHMARKS.md with its plots, and show the main ratios."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if find_spec("matplotlib") is None:  # said before an hour of measuring, not after it
        output.fail(SetupError("matplotlib is missing; run `make bench`, or install bench/requirements.txt", "machine"))
    file = into / "bench" / "results.json"
    found = results.load(file)
    chosen = list(only) or [name for name in sections.SECTIONS if not (quick and name in sections.NOT_QUICK)]
    failed: list[str] = []
    try:
        if not report_only:
            with _stack(stack_dir) as (stack, folder):
                size = events or (QUICK_EVENTS if quick else EVENTS)
                plan = sections.Plan(stack, folder, size, rounds or (1 if quick else 3), quick, real_input, _say)
                failed = _measure(plan, chosen, found, file)
        _report(into, found)
    except KeyboardInterrupt:
        output.err.print("stopped; the sections that had ended are kept")
        sys.exit(output.EXIT_INTERRUPTED)
    except CoreTablesError as error:
        output.fail(error)
    if failed:
        output.err.print(f"failed: {', '.join(failed)}; what they gave before is kept", markup=False)
        sys.exit(output.EXIT_DEFECT)


def _measure(plan: sections.Plan, chosen: Sequence[str], found: Results, file: Path) -> list[str]:
    """Run sections one by one; what a section gave is saved at once. Return those that failed: the others go on."""
    failed = []
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
        found["sections"][name] = results.section(rows, _command(plan, name), load_average, quick=plan.quick)
        results.save(file, found)
    return failed


def _report(into: Path, found: Results) -> None:
    from bench import plots, report  # matplotlib takes a second

    plots.draw(into / "bench", found)
    report.write(into / "BENCHMARKS.md", found)
    rows: list[Sequence[object]] = [
        (check.what, check.told, check.wanted, ("yes" if check.holds else "no") if check.wanted else "")
        for check in summary.checks(found)
    ]
    output.emit_rows("main ratios", ("", "measured", "wanted", "reached"), rows)
    output.out.print(f"the tables are in {into / 'BENCHMARKS.md'}", markup=False)


@contextmanager
def _stack(given: Path | None) -> Iterator[tuple[StackAddresses, Path]]:
    """A stack that is gone afterwards; one that was given stays, and runs on if it ran before."""
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


def _say(line: Any) -> None:
    output.err.print(line, markup=False)


def _command(plan: sections.Plan, section: str) -> str:
    """The command that runs a section again; where its files were is nobody's business."""
    quick = " --quick" if plan.quick else ""
    return f"python -m bench{quick} --only {section} --rounds {plan.rounds} --events {plan.events}"


if __name__ == "__main__":
    main()
