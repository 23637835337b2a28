"""One rendered corpus and one whole run from the command line, shared by all tests that look at what came out; and
what the tests that train in this process take: a process group of one rank, and one thread.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from whole_runs import Whole

from warehouse.corpus.build import build

CLIPS = 64


@pytest.fixture(scope="session")
def rendered_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded corpus at its smallest."""
    root = tmp_path_factory.mktemp("embedded") / "corpus"
    build(root, CLIPS, workers=2)
    return root


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, rendered_corpus: Path) -> Whole:
    """A whole run that nothing interrupted. Tests may run its job again, and change nothing else."""
    whole = Whole(tmp_path_factory.mktemp("undisturbed"), rendered_corpus)
    whole.run()
    return whole


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A gloo group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums keep their order, so that equal means equal to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
