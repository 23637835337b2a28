"""The loader from end to end beside bare decoding of the packets that it decodes, for ``benchmarks.decode``."""

import io
import resource
import time
from collections.abc import Sequence
from itertools import islice

import av
from tqdm import tqdm

from loaders.packets import packet_stream
from loaders.stream import stream_order
from loaders.train_loader import ClipLoader
from loaders.trim import trim
from loaders.views import LoaderConfig, training_views
from warehouse.catalog.sample import Sample
from warehouse.shards.reader import read_sample

CLIPS, BATCHES, FEW = 10, 13, 1
"""Clips of a batch, batches of a long run and of a short one: their difference has no start of a process in it."""
SETTLE_S = 1.0
"""For the worker to fill the places that are free, before either run ends: as many in both."""


def bound(samples: Sequence[Sample], turns: int) -> dict[str, list[float]]:
    """CPU seconds for the same (BATCHES - FEW) · CLIPS clips, a number for each turn.

    ``loader`` is ``ClipLoader`` with a worker, both processes together. ``pyav`` is PyAV opening a file of just the
    packets that the loader decodes, and decoding it. ``decoder`` is FFmpeg's decoder alone, given them one by one. The
    last two have all in memory, and check and convert nothing.
    """
    spent: dict[str, list[float]] = {"loader": [], "pyav": [], "decoder": []}
    for turn in tqdm(range(turns), desc="loader and bare decoding"):
        config = LoaderConfig(clips_per_batch=CLIPS, seed=turn, workers=1)
        spent["loader"].append(_loader_seconds(samples, config, BATCHES) - _loader_seconds(samples, config, FEW))
        order = stream_order(samples, config, 0, 1, None)
        drawn = [(samples[draw.index], training_views(config, samples[draw.index], draw))
                 for draw in islice(order, FEW * CLIPS, BATCHES * CLIPS)]  # fmt: skip
        seconds = {"pyav": 0.0, "decoder": 0.0}
        for sample, views in drawn:
            data = read_sample(sample)
            wanted = sorted({frame for view in views for frame in view.frame_ids.tolist()})
            trimmed = trim(sample, data, wanted).data
            extradata, packets = _packets(sample, data, wanted)
            started = cpu_seconds()
            decode_file(trimmed)
            between = cpu_seconds()
            decode_packets(sample.codec, extradata, packets)
            seconds["decoder"] += cpu_seconds() - between
            seconds["pyav"] += between - started
        for name, total in seconds.items():
            spent[name].append(total)
    return spent


def _loader_seconds(samples: Sequence[Sample], config: LoaderConfig, batches: int) -> float:
    before = cpu_seconds()
    with ClipLoader(samples, config) as loader:
        for _ in islice(loader, batches):
            pass
        time.sleep(SETTLE_S)
    return cpu_seconds() - before


def _packets(sample: Sample, data: bytes, wanted: Sequence[int]) -> tuple[bytes | None, list[bytes]]:
    with packet_stream(sample, data) as stream:
        assert stream is not None
        return stream.decoder.extradata, [bytes(stream.index.payload(i)) for i in stream.index.needed(wanted)]


def decode_file(data: bytes) -> None:
    """Every frame of a video in memory, on one thread."""
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def decode_packets(codec: str, extradata: bytes | None, packets: Sequence[bytes]) -> None:
    """Every frame of packets in memory, by a new decoder, on one thread."""
    decoder = av.CodecContext.create(codec, "r")
    decoder.thread_count, decoder.extradata = 1, extradata
    for packet in packets:
        decoder.decode(av.Packet(packet))
    decoder.decode(None)


def cpu_seconds() -> float:
    """User and system time of this process, and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
