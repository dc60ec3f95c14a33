"""The program's wings and how they may import each other: downwards, in no circle, as docs/architecture.md says."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mlops_exporter

PACKAGE = Path(mlops_exporter.__file__).parent
DOCUMENT = PACKAGE.parents[1] / "docs" / "architecture.md"
BESIDE_THE_WINGS = {"__init__", "__main__", "cli", "client", "ledgers", "spark"}
LEAVES = {"logs", "arrays"}
"""Small modules that import nothing of the package, so that every wing may use them."""


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in PACKAGE.rglob("*.py")}


def _imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports, also inside its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mlops_exporter":
            place = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{place}.{alias.name}".lstrip(".")
                found.add(inner if inner in MODULES else place)
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("mlops_exporter.")}
    return found - {"", name, "__init__"}


GRAPH = {name: _imports(name) for name in MODULES}


def _wing(module: str) -> str:
    return module.partition(".")[0]


def _order() -> list[str]:
    """Return the wings as the table of docs/architecture.md lists them, the lowest first."""
    rows = re.findall(r"^\| ((?:`\w+/`(?:, )?)+) \|", DOCUMENT.read_text(), re.MULTILINE)
    return [wing for row in rows for wing in re.findall(r"`(\w+)/`", row)]


def test_the_document_lists_every_wing() -> None:
    wings = {_wing(name) for name in MODULES} - BESIDE_THE_WINGS - LEAVES
    assert sorted(_order()) == sorted(wings)
    assert all((PACKAGE / wing).is_dir() for wing in wings), "a module belongs into a wing"


def test_nothing_imports_upwards() -> None:
    floor = {wing: number for number, wing in enumerate(_order(), 1)}
    floor |= {
        "ledgers": len(floor) + 1,
        "spark": len(floor) + 2,
        "cli": len(floor) + 3,
        "__main__": len(floor) + 4,
        "client": 0,
    } | dict.fromkeys(LEAVES, 0)
    upwards = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if _wing(name) != "__init__" and floor[_wing(other)] > floor[_wing(name)]
    ]
    assert not upwards, upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_leaves_and_client_import_nothing_of_the_package() -> None:
    assert not [name for name in (*LEAVES, "client") if GRAPH.get(name)]


def test_statistics_know_no_files_clocks_or_sockets() -> None:
    forbidden = {"io", "os", "pathlib", "time", "datetime", "socket", "asyncio", "threading", "logging"}
    for name in MODULES:
        if _wing(name) == "statistics":
            tree = ast.parse(MODULES[name].read_text())
            used = {a.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            used |= {str(n.module).partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            assert not used & forbidden, name


TESTS = Path(__file__).parents[1]
LAYERS = {path.name for path in TESTS.iterdir() if (path / "__init__.py").is_file()} - {"support", "golden"}


def test_layers_of_the_tests_do_not_import_each_other() -> None:
    """What two of them need stands in tests/support. A soak and a scene are built from what others have."""
    sideways = []
    for path in TESTS.rglob("*.py"):
        layer = path.relative_to(TESTS).parts[0]
        found = set(re.findall(r"^(?:from|import) tests\.(\w+)", path.read_text(), re.MULTILINE))
        sideways += [f"{path.relative_to(TESTS)}: {other}" for other in found & LAYERS - {layer}]
    assert not sideways, sideways
