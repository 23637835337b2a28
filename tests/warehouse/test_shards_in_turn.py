"""Writing, planning and compacting shards wait for each other, and say for whom; a killed holder frees the others."""

import subprocess
import sys

import pytest
from curated_houses import quiet
from small_shards import House, digests, two_of_one_shard

from warehouse import steps
from warehouse.shards.executing import execute_plans
from warehouse.store import Store
from warehouse.takedown.proof import prove
from warehouse.takedown.takedowns import take_down, taken_down

# The work, held up before it writes the tables of the shards, by when compact has changed plan and tars.
_WORK = """
import sys
from pathlib import Path
from warehouse import steps
from warehouse.config import load
from warehouse.shards import executing
from warehouse.store import Store
from warehouse.takedown import compact

config = load(Path(sys.argv[1]))
store = Store(config.data_root)
tabulate = executing.tabulate

def held_up(*arguments):
    print("inside", flush=True)
    sys.stdin.readline()
    return tabulate(*arguments)

if sys.argv[3:]:
    executing.tabulate = compact.tabulate = held_up
if sys.argv[2] == "compacts":
    compact.compact(store)
elif sys.argv[2] == "writes":
    executing.execute_plans(store, config, config.sources, lambda progress: None)
else:
    for source in config.sources:
        steps.plan_source(store, config, source)
"""


def start(house: House, work: str, *held_up: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WORK, str(house.config.path), work, *held_up]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def said_while_waiting(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def holding(house: House, work: str) -> subprocess.Popen[str]:
    """A process in the middle of its work."""
    process = start(house, work, "held up")
    assert process.stdout is not None and process.stdout.readline() == "inside\n", process.communicate()
    return process


@pytest.mark.parametrize("waits", ["writes", "plans", "compacts"])
def test_a_job_waits_for_compact_and_works_on_what_it_left(house_of_mine: House, waits: str) -> None:
    house, store = house_of_mine, house_of_mine.store
    gone = two_of_one_shard(house)
    take_down(store, gone, "asked", "me")
    first = holding(house, "compacts")
    second = start(house, waits)
    assert f"waiting for process {first.pid} on" in (said := said_while_waiting(second)), said
    assert "which compacts shards" in said and second.poll() is None
    assert first.communicate("\n" * 99)[1] == "" and first.returncode == 0
    assert second.communicate()[1] == "" and second.returncode == 0
    _assert_compacted(house, store)


def test_compact_waits_for_a_job_until_it_is_killed(house_of_mine: House) -> None:
    house, store = house_of_mine, house_of_mine.store
    take_down(store, two_of_one_shard(house), "asked", "me")
    before = digests(store)
    job = holding(house, "writes")
    compact = start(house, "compacts")
    assert f"waiting for process {job.pid} on" in said_while_waiting(compact)
    assert digests(store) == before
    job.kill()
    job.communicate()
    assert compact.communicate()[1] == "" and compact.returncode == 0
    _assert_compacted(house, store)


def _assert_compacted(house: House, store: Store) -> None:
    gone = taken_down(store)
    assert prove(store, gone, 1).left == ()
    assert gone.isdisjoint(row["clip_id"] for table in ("packing", "samples") for row in store.rows(table))
    assert all(steps.plan_source(store, house.config, source).skipped for source in house.config.sources)
    assert all(result.skipped for result in execute_plans(store, house.config, house.config.sources, quiet).values())
