"""One thread for all tests of models."""

import pytest


@pytest.fixture(autouse=True)
def always_one_thread(one_thread: None) -> None:
    """Tests of models compare to the bit."""
