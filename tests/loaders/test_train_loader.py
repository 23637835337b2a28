import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import pool
from loaders.batch import Batch
from loaders.failures import HUNG, TooManyFailuresError
from loaders.order import Cursor, draws
from loaders.train_loader import ClipLoader, LoaderConfig
from warehouse.catalog.snapshots import Sample

ROOT = Path(__file__).parents[2]
MakeSamples = Callable[[list[bytes]], list[Sample]]
CONFIG = LoaderConfig(clips_per_batch=5, frames=8, size=32, views=2, seed=3, flip=True, crop="random_resized")


def take(samples: list[Sample], config: LoaderConfig, count: int, start: Cursor | None = None) -> list[Batch]:
    with ClipLoader(samples, config, start=start) as loader:
        return list(islice(loader, count))


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.clip_ids == other.clip_ids and one.cursor == other.cursor
        assert torch.equal(one.class_ids, other.class_ids) and torch.equal(one.frames, other.frames)


def break_clip(sample: Sample) -> None:
    """Overwrite the middle of a clip in its shard."""
    with sample.shard.open("r+b") as shard:
        shard.seek(sample.offset + sample.size // 2)
        shard.write(b"broken")


def test_batches_are_views_of_clips(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    batches = take(samples, CONFIG, 3)  # 15 clips: into the second epoch
    order = [samples[draw.index] for draw in islice(draws([1.0] * 12, seed=3), 15)]
    assert [clip for batch in batches for clip in batch.clip_ids] == [sample.clip_id for sample in order]
    assert [batch.cursor for batch in batches] == [Cursor(0, 5), Cursor(0, 10), Cursor(1, 3)]
    expected = [-1 if sample.class_id is None else sample.class_id for sample in order for _ in range(2)]
    assert torch.cat([batch.class_ids for batch in batches]).tolist() == expected and -1 in expected
    for batch in batches:
        assert batch.frames.shape == (10, 8, 32, 32, 3) and batch.frames.dtype == torch.uint8
        assert batch.data_wait_s > 0
        flat = batch.frames.flatten(1)
        assert all(not torch.equal(flat[row], flat[row + 1]) for row in range(0, 10, 2))


def test_workers_do_not_change_the_batches(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    break_clip(samples[4])
    expected = take(samples, dataclasses.replace(CONFIG, max_failed_share=0.5), 6)
    for workers in (1, 2):
        config = dataclasses.replace(CONFIG, max_failed_share=0.5, workers=workers, prefetch_batches=workers)
        assert_same(take(samples, config, 6), expected)


def test_a_resumed_run_gives_the_remaining_batches(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    break_clip(samples[7])
    config = dataclasses.replace(CONFIG, max_failed_share=0.5, views=1)
    whole = take(samples, config, 8)
    for done in (1, 3, 6):
        resumed = dataclasses.replace(config, workers=done % 2)
        assert_same(take(samples, resumed, 8 - done, whole[done - 1].cursor), whole[done:])


def test_frames_are_the_memory_that_workers_write_into(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    config = dataclasses.replace(CONFIG, workers=2, max_failed_share=0.5)
    for broken in (False, True):
        if broken:
            break_clip(samples[4])
        expected = take(samples, dataclasses.replace(config, workers=0), 20)
        with ClipLoader(samples, config) as loader:
            pieces = 0
            for batch, same in zip(loader, expected, strict=False):
                assert_same([batch], [same])
                assert batch.failed == same.failed
                pieces += np.shares_memory(loader.memory, batch.frames.numpy())
        # Copied is none but where a clip fails, or has failed just before.
        assert pieces == 20 if not broken else 0 < pieces < 20


def test_a_first_view_is_the_same_with_and_without_others(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    (several,) = take(samples, CONFIG, 1)
    (single,) = take(samples, dataclasses.replace(CONFIG, views=1), 1)
    assert torch.equal(several.frames[::2], single.frames)


def test_two_ranks_are_disjoint_and_complete(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    config = dataclasses.replace(CONFIG, clips_per_batch=3)
    whole = take(samples, dataclasses.replace(config, clips_per_batch=12), 1)[0]
    ranks = [list(islice(ClipLoader(samples, config, rank, world=2), 2)) for rank in range(2)]
    ids = [[clip for batch in batches for clip in batch.clip_ids] for batches in ranks]
    assert sorted(ids[0] + ids[1]) == sorted(sample.clip_id for sample in samples)
    rows = {clip: whole.frames[2 * place : 2 * place + 2] for place, clip in enumerate(whole.clip_ids)}
    for batches in ranks:
        for batch in batches:  # a rank sees a clip exactly as a single process would
            assert torch.equal(batch.frames, torch.cat([rows[clip] for clip in batch.clip_ids]))


def test_a_failed_clip_is_recorded_and_the_next_takes_its_place(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    garbage = b"not a video" * 9
    broken, unreadable = samples[2], samples[8]
    break_clip(broken)
    with unreadable.shard.open("r+b") as shard:  # as the catalog promises, and still no video
        shard.seek(unreadable.offset)
        shard.write(garbage)
    digest = hashlib.sha256(garbage).hexdigest()
    samples[8] = dataclasses.replace(unreadable, size=len(garbage), sha256=digest)
    with ClipLoader(samples, dataclasses.replace(CONFIG, max_failed_share=0.5, workers=1)) as loader:
        seen = [clip for batch in islice(loader, 4) for clip in batch.clip_ids]
        failures = {failure.clip_id: failure.error for failure in loader.failures}
    order = (samples[draw.index].clip_id for draw in draws([1.0] * 12, seed=3))
    assert seen == list(islice((clip for clip in order if clip not in ("clip-02", "clip-08")), 20))
    assert failures.keys() == {"clip-02", "clip-08"}
    assert "SHA-256" in failures["clip-02"] and "Invalid" in failures["clip-08"]
    assert str(broken.shard) in failures["clip-02"] and str(unreadable.shard) in failures["clip-08"]


def test_a_clip_whose_storage_does_not_answer_is_passed_over(
    clips: list[bytes], make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLIP_SECONDS", 1.0)
    samples = make_samples(clips)
    config = dataclasses.replace(CONFIG, max_failed_share=0.5, seed=1)
    order = [draw.index for draw in islice(draws([1.0] * 12, seed=1), 11)]
    silent = tmp_path / "silent.tar"
    os.mkfifo(silent)  # to open it waits for somebody who writes: nobody does
    samples[order[3]] = dataclasses.replace(samples[order[3]], shard=silent)
    with ClipLoader(samples, dataclasses.replace(config, workers=2)) as loader:
        batches = list(islice(loader, 2))
    seen = [clip for batch in batches for clip in batch.clip_ids]
    assert seen == [samples[index].clip_id for index in order if index != order[3]]
    [[failure], []] = [batch.failed for batch in batches]
    assert (failure.clip_id, failure.error_class) == (samples[order[3]].clip_id, HUNG)
    assert str(silent) in failure.error and loader.failures == (failure,)
    # The rest is what it would have been without that clip, pixels and all.
    samples[order[3]] = dataclasses.replace(samples[order[3]], shard=tmp_path / "absent.tar")
    assert_same(batches, take(samples, config, 2))


def test_too_many_failures_stop_the_run_with_their_list(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    for sample in samples[:3]:
        break_clip(sample)
    tried: list[str] = []
    with pytest.raises(TooManyFailuresError, match=r"clip-0[012]") as raised, ClipLoader(samples, CONFIG) as loader:
        for batch in loader:
            tried += batch.clip_ids
    assert {failure.clip_id for failure in raised.value.failures} == {"clip-00", "clip-01", "clip-02"}
    assert tried  # a few failures at the start do not stop it yet


def test_a_weight_of_zero_keeps_a_clip_out(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    weighted = [dataclasses.replace(sample, weight=float(number != 1)) for number, sample in enumerate(samples)]
    seen = set(itertools.chain.from_iterable(batch.clip_ids for batch in take(weighted, CONFIG, 12)))
    assert seen == {sample.clip_id for sample in samples} - {"clip-01"}


@pytest.mark.parametrize("kills", [(1, 2), (3, 3)])
def test_killed_at_any_batch_the_stream_goes_on_with_the_same_batches(
    kills: tuple[int, ...], clips: list[bytes], make_samples: MakeSamples, tmp_path: Path
) -> None:
    """A process that prints each batch is killed, and another goes on from its last cursor with more workers."""
    samples = make_samples(clips)
    break_clip(samples[7])
    config = LoaderConfig(
        3, frames=4, size=16, seed=5, flip=True, run_clips=2, source_shares={"test": 1}, max_failed_share=0.5
    )
    with ClipLoader(samples, config, rank=1, world=2) as loader:
        expected = [described(batch) for batch in islice(loader, sum(kills) + 3)]
    pickled = tmp_path / "samples.pickle"
    pickled.write_bytes(pickle.dumps((samples, config)))
    seen: list[str] = []
    for workers, count in enumerate((*kills, 3), 1):
        start = json.dumps(json.loads(seen[-1])[0] if seen else [0, 0])
        command = [sys.executable, "-c", PRINTER, str(pickled), str(workers), start]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
            assert process.stdout is not None
            seen += [process.stdout.readline().strip() for _ in range(count)]
            process.send_signal(signal.SIGKILL)
    assert seen == expected
    assert len({json.loads(line)[1] for line in seen}) == len(seen)


PRINTER = """
import dataclasses, json, pickle, sys
from pathlib import Path
from test_train_loader import ClipLoader, Cursor, described
samples, config = pickle.loads(Path(sys.argv[1]).read_bytes())
config = dataclasses.replace(config, workers=int(sys.argv[2]))
for batch in ClipLoader(samples, config, 1, 2, Cursor(*json.loads(sys.argv[3]))):
    print(described(batch), flush=True)
"""


def described(batch: Batch) -> str:
    """A line of JSON: cursor, digest of the frames, clips."""
    digest = hashlib.sha256(batch.frames.numpy().tobytes()).hexdigest()
    return json.dumps([[batch.cursor.epoch, batch.cursor.position], digest, batch.clip_ids])


def test_workers_end_with_their_parent(clips: list[bytes], make_samples: MakeSamples, tmp_path: Path) -> None:
    pickled = tmp_path / "samples.pickle"
    pickled.write_bytes(pickle.dumps(make_samples(clips)))
    script = (
        "import pickle, sys; from pathlib import Path; from loaders.train_loader import ClipLoader, LoaderConfig\n"
        "samples = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "loader = ClipLoader(samples, LoaderConfig(2, frames=8, size=32, workers=2))\n"
        "for batch in loader: print(batch.clip_ids, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(pickled)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        assert b"clip-" in parent.stdout.readline()
        parent.send_signal(signal.SIGKILL)
        # The workers hold the same pipe: it ends when the last of them has ended.
        parent.communicate(timeout=15)


@pytest.mark.parametrize("wrong", [{"crop": "none"}, {"sampling": "all"}, {"clips_per_batch": 0}, {"workers": -1}])
def test_a_wrong_configuration_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="LoaderConfig"):
        dataclasses.replace(CONFIG, **wrong)
