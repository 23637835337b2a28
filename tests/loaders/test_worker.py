import subprocess
import sys
from pathlib import Path

HEAVY = {"duckdb", "matplotlib", "nvidia", "pandas", "pyarrow", "torch"}


def test_a_worker_imports_nothing_heavy() -> None:
    """Of 8 workers a GPU, each would pay for it in memory and in the time until its first clip."""
    script = f"import sys, loaders.worker; print(sorted({HEAVY} & {{name.partition('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
