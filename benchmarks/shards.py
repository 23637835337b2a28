"""What writing shards costs beside what one would use instead: ``python -m benchmarks.shards [--json]``.

Two comparisons, each of the unit of work of the asset `shards` (one process, a shard from the first read to the sidecar
on the disk), with both sides in turn on the same files, several times; a ratio is our wall time by theirs. CPU time (of
the process and its children) is told beside it: it varies less on a machine that others use.

- `original`: unchanged bytes, beside GNU ``tar`` of the same files. Both end when the bytes are on the disk. Ours also
  reads the tar back, checks every clip against its SHA-256 and takes that of the tar; beside it, too, ``tar`` followed
  by ``sha256sum`` of the files and of the tar, which is as much hashing.
- `np256`: beside bare FFmpeg through PyAV: decode, scale, encode with the same settings into files, on one thread. Ours
  also hashes packets, probes what it has encoded against the contract, and writes and reads back the tar.

Then what the renditions keep of the picture, and their sizes (:mod:`benchmarks.rendition_quality`). The files are real
clips where ``--videos`` has them, else an embedded corpus rendered for this.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, VideoReformatter
from tqdm import tqdm

from benchmarks.rendition_quality import quality, quality_table
from warehouse.corpus.build import build
from warehouse.curation.probe import probe_and_hash
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encoder_options
from warehouse.shards.rendition import CONTRACTS, fit_sides
from warehouse.shards.shard_plan import MEDIA_KEYS, Member, ShardPlan
from warehouse.shards.writer import write_shards

WORK = Path(".reelhouse/benchmarks/shards")
VIDEOS = Path(__file__).parents[2] / "shared" / "data"
CORPUS_CLIPS, CORPUS_SEED, STRIDE = 120, 2, 4
SETS = ("asl_words/**/*.m*", "ut_interaction/**/*.avi")
UNCHANGED_BYTES = 256 * 2**20
"""Of the shard of unchanged bytes, as many as a shard is planned for: the clips are copied until there are so many."""
ENCODED_CLIPS, GROUP_CLIPS = 24, 6
"""Clips that are encoded, and how many of them in one turn."""
OURS, THEIRS = "ours", "theirs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=8, help="turns that each is measured (default: %(default)s)")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder with sets of real clips")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    result = measure(options.videos, options.repetitions)
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def measure(videos: Path, repetitions: int) -> dict[str, Any]:
    """The ratios with their spread, the seconds that they are made of, and the quality of the renditions."""
    shutil.rmtree(WORK, ignore_errors=True)
    clips = usable(videos)
    some = clips[:: max(1, len(clips) // ENCODED_CLIPS)][:ENCODED_CLIPS]
    copies = copied(clips)
    size = sum(Path(member.media.path).stat().st_size for member in copies)
    out = WORK / "out"
    groups = [some[start : start + GROUP_CLIPS] for start in range(0, len(some), GROUP_CLIPS)]
    unchanged = compare(out, repetitions, [copies], partial(ours, "original"), tar_of)
    checked = compare(out, repetitions, [copies], partial(ours, "original"), tar_and_checksums)
    encoded = compare(out, repetitions, groups, partial(ours, "np256"), transcode_all)
    figures = quality(some, STRIDE)
    shutil.rmtree(WORK)
    return {
        "benchmark": "shards",
        "repetitions": repetitions,
        "ratio_vs_tar": unchanged["ratio"]["median"],
        "ratio_vs_tar_and_checksums": checked["ratio"]["median"],
        "ratio_vs_ffmpeg": encoded["ratio"]["median"],
        "unchanged": {"clips": len(copies), "bytes": size, **unchanged},
        "checked": {"clips": len(copies), **checked},
        "encoded": {"clips": len(some), "frames": sum(member.frames for member in some), **encoded},
        "quality": figures,
    }


def usable(videos: Path) -> list[Member]:
    """The clips, probed; files that cannot be used, and copies of one file, are left out."""
    paths = sorted({path for pattern in SETS for path in videos.glob(pattern)})
    if not paths:
        build(WORK / "corpus", CORPUS_CLIPS, CORPUS_SEED)
        paths = sorted(path for path in WORK.rglob("*") if path.suffix in (".mp4", ".webm"))
    members: dict[str, Member] = {}
    for path in paths:
        media = probe_and_hash(MediaFile(str(path))).media
        if media["status"] == "ok":
            facts = {key: media[key] for key in MEDIA_KEYS}
            members[media["sha256"]] = Member(media["sha256"][:32], MediaFile(str(path)), True, **facts)
    return list(members.values())


def copied(clips: Sequence[Member]) -> list[Member]:
    """Copies of the clips, until they have ``UNCHANGED_BYTES``."""
    folder = WORK / "copies"
    folder.mkdir(parents=True)
    members, size = [], 0
    while size < UNCHANGED_BYTES:
        clip = clips[len(members) % len(clips)]
        path = folder / f"{len(members):06d}{Path(clip.media.path).suffix}"
        shutil.copyfile(clip.media.path, path)
        size += path.stat().st_size
        members.append(replace(clip, clip_id=f"{len(members):032x}", media=MediaFile(str(path.absolute()))))
    return members


def compare(
    out: Path,
    repetitions: int,
    groups: Sequence[Sequence[Member]],
    ours: Callable[[Path, Sequence[Member]], None],
    theirs: Callable[[Path, Sequence[Member]], None],
) -> dict[str, Any]:
    """Wall and CPU seconds of both, in turn on one group of clips after the other, and their ratios by turn.

    A turn of each comes first that is not counted.
    """
    wall: dict[str, list[float]] = {OURS: [], THEIRS: []}
    cpu: dict[str, list[float]] = {OURS: [], THEIRS: []}
    for turn in tqdm(range(-1, repetitions), desc="turns"):
        # Who goes first changes: what one leaves to the disk, the other may have to wait for.
        for name, work in [(OURS, ours), (THEIRS, theirs)][:: 1 if turn % 2 else -1]:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            os.sync()
            started, before = time.perf_counter(), _cpu_seconds()
            work(out, groups[turn % len(groups)])
            if turn >= 0:
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(_cpu_seconds() - before)
    return {"ratio": _ratio(wall), "cpu_ratio": _ratio(cpu), "seconds": wall, "cpu_seconds": cpu}


def _ratio(seconds: dict[str, list[float]]) -> dict[str, float]:
    ratios = [our / their for our, their in zip(seconds[OURS], seconds[THEIRS], strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def ours(rendition: str, out: Path, members: Sequence[Member]) -> None:
    """A shard of the clips, as the asset `shards` writes it."""
    write_shards([ShardPlan(str(out), "shard", "benchmark", rendition, STRIDE, tuple(members))])


def tar_of(out: Path, members: Sequence[Member]) -> None:
    """A tar of the files by the program ``tar``, on the disk."""
    names = "\n".join(Path(member.media.path).name for member in members)
    folder, target = Path(members[0].media.path).parent, out.absolute() / "files.tar"
    subprocess.run(["tar", "cf", target, "-C", folder, "-T", "-"], input=names, text=True, check=True)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def tar_and_checksums(out: Path, members: Sequence[Member]) -> None:
    """The same tar, and the SHA-256 of each file and of the tar by the program ``sha256sum``."""
    tar_of(out, members)
    paths = [*(member.media.path for member in members), str(out / "files.tar")]
    command = ["xargs", "-d", "\n", "sha256sum"]
    subprocess.run(command, input="\n".join(paths), text=True, check=True, capture_output=True)


def transcode_all(out: Path, members: Sequence[Member]) -> None:
    """The files encoded as `np256` is, each to a file."""
    for member in members:
        transcode(member.media.path, out / f"{member.clip_id}.mp4", member.fps)


def transcode(source: str, target: Path, fps: float | None) -> None:
    """Decode, scale and encode: what a script with PyAV does, or the program ``ffmpeg`` with these options."""
    contract = CONTRACTS["np256"]
    rate = Fraction(fps or 25).limit_denominator(1001)
    with av.open(source) as reading, av.open(str(target), "w") as writing:
        reading.streams.video[0].codec_context.thread_count = 1
        encoder, scaler = None, VideoReformatter()
        for number, frame in enumerate(reading.decode(video=0)):
            if encoder is None:
                encoder = writing.add_stream("libx264", rate=rate, options=encoder_options(contract, STRIDE))
                assert isinstance(encoder, av.VideoStream)
                encoder.width, encoder.height = fit_sides(frame.width, frame.height, contract.short_side)
                encoder.pix_fmt, encoder.codec_context.thread_count = "yuv420p", 1
            picture = scaler.reformat(
                frame, encoder.width, encoder.height, "yuv420p", interpolation="AREA",
                dst_color_range=ColorRange.MPEG, threads=1,
            )  # fmt: skip
            picture.pts, picture.time_base, picture.pict_type = number, 1 / rate, 0
            writing.mux(encoder.encode(picture))
        assert encoder is not None
        writing.mux(encoder.encode(None))


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    unchanged, checked, encoded = result["unchanged"], result["checked"], result["encoded"]
    size = f"unchanged bytes, {unchanged['bytes'] / 2**20:.0f} MiB"
    lines = [
        f"Seconds of wall time, median of {result['repetitions']} turns; ratios of each turn, median (least to most).",
        "",
        "| work | clips | ours | beside it | seconds | ratio | of CPU time |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for name, figures, other in (
        (size, unchanged, "tar"),
        (size, checked, "tar and sha256sum"),
        (f"np256, {GROUP_CLIPS} clips a turn", encoded, "FFmpeg (PyAV)"),
    ):
        ours, theirs = (statistics.median(figures["seconds"][arm]) for arm in (OURS, THEIRS))
        lines.append(
            f"| {name} | {figures['clips']} | {ours:.2f} | {other} | {theirs:.2f} | {_shown(figures['ratio'])} "
            f"| {_shown(figures['cpu_ratio'])} |"
        )
    return "\n".join([*lines, "", quality_table(result["quality"])])


def _shown(ratio: dict[str, float]) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['least']:.2f} to {ratio['most']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
