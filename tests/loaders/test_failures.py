import random

import pytest

from loaders.failures import SHARD, FailedClip, FailureLog, TooManyFailuresError

FAILED = FailedClip("clip", SHARD, "clip in a.tar: gone")


def tries_until_stopped(rate: float, most: int, seed: int) -> int | None:
    """Of clips that fail at this rate, how many are tried until a run that allows one in twenty stops."""
    rng, log = random.Random(seed), FailureLog(max_failed_share=0.05, min_tries=20)
    for tries in range(1, most + 1):
        try:
            if rng.random() < rate:
                log.record(FAILED)
            else:
                log.delivered()
        except TooManyFailuresError as error:
            assert "1 of 1 " not in str(error) and "a.tar" in str(error)
            return tries
    return None


def test_a_run_stops_where_more_fail_than_chance_explains_and_nowhere_else() -> None:
    assert tries_until_stopped(1.0, 100, 0) == 20
    stopped = [tries_until_stopped(0.15, 1000, seed) for seed in range(100)]
    assert None not in stopped
    assert [tries_until_stopped(0.01, 2000, seed) for seed in range(100)] == [None] * 100


def test_where_none_may_fail_the_first_one_stops() -> None:
    log = FailureLog(max_failed_share=0.0, min_tries=1)
    log.delivered()
    with pytest.raises(TooManyFailuresError, match=r"1 of 2 clips failed"):
        log.record(FAILED)


def test_a_clip_that_fails_again_is_listed_once_and_counted_twice() -> None:
    log = FailureLog(max_failed_share=0.5, min_tries=20)
    log.record(FAILED)
    log.delivered()
    log.refused(FAILED)  # of what was delivered
    assert (log.clips, log.failed, log.tries) == ((FAILED,), 2, 2)
