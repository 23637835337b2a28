"""Connections to DuckDB: all are opened in one way, and none draws into what a command prints."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("warehouse", "loaders", "model", "assets", "pipelines", "benchmarks")

_ASK = """
import duckdb
from warehouse.connections import open_duckdb
question = "SELECT current_setting('enable_progress_bar'), current_setting('memory_limit')"
for connection in (duckdb.connect(), open_duckdb(memory_limit="1GiB")):
    print(*connection.execute(question).fetchone())
"""


def test_no_progress_bar_is_drawn_where_duckdb_would_draw_one() -> None:
    told = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    plain, ours = told.splitlines()
    assert plain.startswith("True ") and ours == "False 1.0 GiB"


def test_nobody_opens_a_connection_otherwise() -> None:
    opening = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(ast.unparse(call) == "duckdb.connect" for call in calls):
            opening.add(path.relative_to(ROOT).as_posix())
    assert opening == {"warehouse/connections.py"}
