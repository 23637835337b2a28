"""Taking clips out of a shard: the bytes of the others, and nothing else, at any moment."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rendered_clips import drifting, write
from shard_plans import plan

from warehouse.shards import tar_file
from warehouse.shards.errors import ShardError
from warehouse.shards.rewriting import rewrite_without
from warehouse.shards.shard_plan import ShardPlan
from warehouse.shards.sidecar import Sidecar, read_sidecar, sidecar_path
from warehouse.shards.writer import write_shards


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write(folder / f"{seed}.mp4", drifting(seed, count=20)) for seed in range(4)]


@pytest.fixture
def shard(tmp_path: Path, clips: list[Path]) -> ShardPlan:
    """A shard of four clips that is written."""
    shard = plan(tmp_path / "shards", clips, "np256")
    write_shards([shard])
    return shard


def content(sidecar: Sidecar, tar: Path) -> dict[str, bytes]:
    data = tar.read_bytes()
    return {clip.key: data[clip.offset : clip.offset + clip.size] for clip in sidecar.members}


def test_the_others_keep_their_bytes_and_the_plan_without_the_clip_is_finished(
    tmp_path: Path, shard: ShardPlan
) -> None:
    before = content(shard.finished(), shard.tar)  # type: ignore[arg-type]
    gone = shard.members[1].clip_id
    removed = before.pop(gone)
    shrunk = rewrite_without(shard.tar, [gone, "a clip of another shard"])
    assert content(shrunk, shard.tar) == before and removed not in shard.tar.read_bytes()
    assert gone not in sidecar_path(shard.tar).read_text()
    planned = replace(shard, members=tuple(m for m in shard.members if m.clip_id != gone))
    assert planned.finished() == shrunk and shard.finished() is None
    # Equal to what encoding it anew would have given.
    afresh = replace(planned, folder=str(tmp_path / "afresh"))
    assert write_shards([afresh]) == [shrunk] and afresh.tar.read_bytes() == shard.tar.read_bytes()
    listed = subprocess.run(["tar", "tf", shard.tar], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [f"{clip}.mp4" for clip in before]
    written = shard.tar.stat().st_mtime_ns
    assert rewrite_without(shard.tar, [gone]) == shrunk and shard.tar.stat().st_mtime_ns == written
    assert sorted(path.suffix for path in shard.tar.parent.iterdir()) == [".json", ".tar"]


@pytest.mark.parametrize("moment", ["before the tar is renamed", "before the sidecar is written"])
@pytest.mark.parametrize("more", [False, True])
def test_killed_at_any_moment_the_same_call_or_one_with_more_clips_ends_it(
    shard: ShardPlan, monkeypatch: pytest.MonkeyPatch, moment: str, more: bool
) -> None:
    before = content(shard.finished(), shard.tar)  # type: ignore[arg-type]
    old = shard.tar.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment == "before the tar is renamed":
            patched.setattr(tar_file.Path, "replace", killed)
        else:
            patched.setattr(Sidecar, "write", killed)
        rewrite_without(shard.tar, [shard.members[0].clip_id])
    assert (shard.tar.read_bytes() == old) == (moment == "before the tar is renamed")
    taken = {member.clip_id for member in shard.members[: 2 if more else 1]}
    shrunk = rewrite_without(shard.tar, taken)
    assert content(shrunk, shard.tar) == {clip: data for clip, data in before.items() if clip not in taken}
    assert read_sidecar(shard.tar) == shrunk and shrunk.fits(shard.tar)


def test_the_step_takes_a_surplus_out_without_its_sources(shard: ShardPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = replace(shard, members=tuple(replace(m, readable=False) for m in shard.members[1:]))
    [shrunk] = write_shards([planned])
    assert [clip.key for clip in shrunk.members] == [member.clip_id for member in planned.members]
    assert planned.finished() == shrunk


def test_a_shard_without_a_member_loses_its_tar(shard: ShardPlan) -> None:
    every = [member.clip_id for member in shard.members]
    empty = rewrite_without(shard.tar, every)
    assert not shard.tar.exists() and (empty.members, empty.bytes) == ((), 0)
    assert rewrite_without(shard.tar, every) == empty == read_sidecar(shard.tar)


def test_damage_is_an_error_that_names_the_clip_and_changes_nothing(shard: ShardPlan) -> None:
    sidecar = read_sidecar(shard.tar)
    assert sidecar is not None
    whole, taken = shard.tar.read_bytes(), [shard.members[0].clip_id]
    last = sidecar.members[-1]
    damaged = bytearray(whole)
    damaged[last.offset + 50] ^= 1
    for data, names in (
        (bytes(damaged), rf"{last.key}.*read back"),
        (whole[: last.offset + 100], r"cannot be read \(unexpected end of data"),
        (whole[: last.offset - 512] + bytes(1024), rf"{last.key} is in its sidecar and not in the tar"),
        (b"no tar" * 1000, "cannot be read"),
    ):
        shard.tar.write_bytes(data)
        with pytest.raises(ShardError, match=names):
            rewrite_without(shard.tar, taken)
        assert shard.tar.read_bytes() == data and read_sidecar(shard.tar) == sidecar
        assert len(list(shard.tar.parent.iterdir())) == 2
    shard.tar.unlink()
    with pytest.raises(ShardError, match="cannot be read"):
        rewrite_without(shard.tar, taken)
    sidecar_path(shard.tar).unlink()
    with pytest.raises(ShardError, match=r"shard-0\.json: no sidecar"):
        rewrite_without(shard.tar, taken)
