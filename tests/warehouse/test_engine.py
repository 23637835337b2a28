"""Units in killable processes: nothing is lost, and only the poison item is blamed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from warehouse.engine import SINGLE_THREADED, Failure, map_unordered


def work(items: list) -> list:
    """Each item is a number to square, or the name of a misbehaviour."""
    results = []
    for item in items:
        if item == "exit":
            os._exit(3)
        if item == "abort":
            os.abort()
        if item == "hang":
            time.sleep(600)
        if item == "bug":
            raise KeyError("a bug of ours")
        if isinstance(item, Path):  # fails the first time only, like a bystander of the memory killer
            if not item.exists():
                item.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            item = 5
        results.append(item * item)
    return results


def environment(items: list) -> list:
    return [(os.getpid(), {name: os.environ.get(name) for name in SINGLE_THREADED}) for _ in items]


def environment_at_birth(items: list) -> list:
    given = dict(entry.partition("=")[::2] for entry in Path("/proc/self/environ").read_text().split("\0"))
    return [{name: given.get(name) for name in SINGLE_THREADED} for _ in items]


def short_answer(items: list) -> list:
    return items[:-1]


def test_every_item_is_answered_and_only_poison_fails(tmp_path: Path) -> None:
    bystander = tmp_path / "first_try"
    units = [[1, 2, 3], [4, "exit", 6, 7], [], [8, "hang"], ["abort"], (9, "exit", "hang", 10), [bystander], [11]]
    answers = list(map_unordered(work, units, workers=2, timeout_s=1.5))
    assert sorted(map(str, units)) == sorted(str(unit) for unit, _ in answers)
    failed = {}
    for unit, results in answers:
        assert len(unit) == len(results)
        for item, result in zip(unit, results, strict=True):
            if isinstance(result, Failure):
                assert result.item == item
                failed.setdefault(item, set()).add((result.error_class, result.detail.split(":")[0]))
            else:
                assert result == (25 if item == bystander else item * item)
    assert failed == {
        "exit": {("decoder_crashed", "exit status 3")},
        "abort": {("decoder_crashed", "SIGABRT")},
        "hang": {("decoder_hung", "killed")},
    }


def test_a_bug_is_raised_with_its_traceback_and_leaves_no_process() -> None:
    with pytest.raises(KeyError, match="a bug of ours") as caught:
        list(map_unordered(work, [[1], ["bug"]], workers=1, timeout_s=30))
    assert "in work" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="must return a list of 2 results"):
        list(map_unordered(short_answer, [[1, 2]], workers=1, timeout_s=30))
    with pytest.raises(ValueError, match="at least 1"):
        list(map_unordered(work, [[1]], workers=0, timeout_s=30))


def test_processes_are_reused_and_single_threaded() -> None:
    answers = [result for _, results in map_unordered(environment, [[i] for i in range(20)], workers=2, timeout_s=30)
               for result in results]  # fmt: skip
    assert len(answers) == 20
    assert len({pid for pid, _ in answers}) <= 2
    assert os.getpid() not in {pid for pid, _ in answers}
    assert all(value == "1" for _, values in answers for value in values.values())


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to see a process's first environment in")
def test_processes_are_single_threaded_before_they_import_our_main_module() -> None:
    [(_, [given])] = map_unordered(environment_at_birth, [[1]], workers=1, timeout_s=30)
    assert set(given.values()) == {"1"}


def test_a_worker_killed_from_outside_loses_nothing() -> None:
    seen = 0
    for _, [(pid, _)] in map_unordered(environment, [[i] for i in range(6)], workers=1, timeout_s=30):
        if seen < 2:
            os.kill(pid, signal.SIGKILL)
        seen += 1
    assert seen == 6


def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    script, pid_file = tmp_path / "parent.py", tmp_path / "pid"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        "from test_engine import tell_and_hang\n"
        "from warehouse.engine import map_unordered\n"
        "if __name__ == '__main__':\n"
        f"    list(map_unordered(tell_and_hang, [[{str(pid_file)!r}]], workers=1, timeout_s=600))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    try:
        worker = int(_wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    finally:
        parent.kill()
        parent.wait()
    _wait_for(lambda: not _runs(worker))


def tell_and_hang(items: list) -> list:
    temporary = Path(f"{items[0]}.tmp")
    temporary.write_text(str(os.getpid()))
    temporary.rename(items[0])
    time.sleep(600)
    return items


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody waits for stays as a zombie where the container has no init process.
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def _wait_for(condition):  # noqa: ANN001, ANN202 (any condition, its first true value)
    end = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < end, "waited 30 s in vain"
        time.sleep(0.05)
    return value
