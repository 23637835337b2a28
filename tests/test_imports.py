"""Who may import whom: walks every import statement of the five packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("warehouse", "loaders", "model", "assets", "pipelines")
ALLOWED = {
    "warehouse": {"warehouse"},
    "model": {"model"},
    "loaders": {"loaders", "warehouse"},
    "assets": {"assets", "model", "loaders", "warehouse"},
    "pipelines": {"pipelines", "assets", "model", "loaders", "warehouse"},
}
# Commands are entry points, as training's is: what they run meets here, and nothing else of `model` imports them.
COMMANDS = ROOT / "model" / "commands"
OF_COMMANDS = {"model", "loaders", "warehouse"}
# Each rank of a training run imports the entry point and what it needs: Dagster itself would cost them seconds.
WITHOUT_DAGSTER = {"warehouse", "loaders", "model"}
TRAINING_ENTRY_POINT = ROOT / "assets" / "train.py"


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 1
    for path in files:
        tops = {name.partition(".")[0] for name in imported(path)}
        forbidden = (tops & set(PACKAGES)) - (OF_COMMANDS if COMMANDS in path.parents else ALLOWED[package])
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"
        if package in WITHOUT_DAGSTER:
            assert "dagster" not in tops, f"{path.relative_to(ROOT)} imports dagster"


def test_only_the_command_line_imports_commands() -> None:
    for path in sorted((ROOT / "model").rglob("*.py")):
        of_commands = [name for name in imported(path) if name.startswith("model.commands")]
        inside = COMMANDS in path.parents or path.name == "__main__.py"
        assert inside or not of_commands, f"{path.relative_to(ROOT)} imports {of_commands}"


def test_training_entry_point_reaches_no_dagster() -> None:
    """Follows our own imports from the entry point: dagster_pipes is all of Dagster that a rank may load."""
    waiting, seen = [TRAINING_ENTRY_POINT], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for name in imported(path):
            assert name.partition(".")[0] != "dagster", f"{path.relative_to(ROOT)} imports {name}"
            if name.partition(".")[0] in PACKAGES:
                base = ROOT / name.replace(".", "/")
                found = next(p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists())
                if found not in seen:
                    waiting.append(found)
    assert len(seen) > 10
