import gc
import mmap

import numpy as np
import pytest

from loaders.memory import LEASES, BatchBuilder, BatchMemory, map_memory


def batch_of(memory: BatchMemory, values: list[int], failing: tuple[int, ...] = ()) -> np.ndarray:
    """What comes of clips that all are under way before the first is taken; those in ``failing`` are not added."""
    wanted = memory.clips + len(failing)
    places = [memory.take(begins_batch=number == 0) for number in range(wanted)]
    builder = BatchBuilder(memory)
    for number, (place, value) in enumerate(zip(places, values[:wanted], strict=True)):
        assert place is not None
        memory.pixels[place] = value
        memory.lend(place)
        if number not in failing:
            builder.add(place)
        memory.settle()
    return builder.finish()


def inside(memory: BatchMemory, batch: np.ndarray) -> bool:
    return np.shares_memory(memory.pixels, batch)


def test_batches_are_pieces_of_the_memory_that_nothing_else_is_written_to() -> None:
    memory = BatchMemory(workers=1, clips=3, under_way=7, shape=(2, 2))
    kept = [batch_of(memory, [10 * number + 1, 10 * number + 2, 10 * number + 3]) for number in range(6)]
    assert [inside(memory, batch) for batch in kept] == [True] * LEASES + [False] * 4
    for number, batch in enumerate(kept):
        assert batch[:, 0, 0].tolist() == [10 * number + 1, 10 * number + 2, 10 * number + 3]
    views = [kept[0][1:], kept[1].reshape(-1)]
    del kept, batch
    assert not inside(memory, batch_of(memory, [1, 2, 3]))  # views keep them, too
    del views
    gc.collect()
    assert all(inside(memory, batch_of(memory, [1, 2, 3])) for _ in range(50))


@pytest.mark.parametrize("failing", [(0,), (1,), (2,), (3,), (0, 1), (0, 3)])
def test_a_batch_in_which_a_clip_failed_has_the_others_together(failing: tuple[int, ...]) -> None:
    memory = BatchMemory(workers=1, clips=3, under_way=7, shape=(1,))
    for _ in range(30):
        values = list(range(1, 7))
        batch = batch_of(memory, values, failing)
        survivors = [value for place, value in enumerate(values) if place not in failing]
        assert batch[:, 0].tolist() == survivors[:3]
        del batch
        whole = batch_of(memory, values)
        assert whole[:, 0].tolist() == [1, 2, 3] and inside(memory, whole)  # back to no copies at once


def test_no_more_is_under_way_than_may_be() -> None:
    memory = BatchMemory(workers=1, clips=2, under_way=5, shape=(1,))
    places = [memory.take(False) for _ in range(6)]
    assert places[-1] is None and len(set(places[:5])) == 5
    assert places[2] is not None
    memory.release(places[2])
    assert memory.take(False) not in (None, places[0], places[1], places[3], places[4])


def test_another_mapping_sees_the_same_marks_and_pixels() -> None:
    memory = BatchMemory(workers=700, clips=2, under_way=2, shape=(3, 5))
    marks, pixels = map_memory(memory.fd, 700, memory.places, (3, 5))
    marks[699], pixels[-1, 2, 4] = 7, 8
    assert memory.marks[699] == 7 and (memory.marks[:699] == -1).all() and memory.pixels[-1, 2, 4] == 8
    assert memory.pixels.ctypes.data % mmap.PAGESIZE == 0
