"""One rendered corpus and one whole run from the command line, shared by all tests that look at what came out."""

from pathlib import Path

import pytest
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
