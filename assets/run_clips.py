"""The clips of a run: what a snapshot's split gives today, and how they are drawn; both are said in the log."""

from collections.abc import Callable, Sequence

from assets.stages import RunSpec
from loaders.views import LoaderConfig
from warehouse.catalog.snapshots import Sample, Tombstone, open_places
from warehouse.store import Store

Say = Callable[[str], None]
"""Writes a line to the run's log."""
GONE_SHOWN = 20
"""Ids of clips taken down that the log names."""


def order_words(loader: LoaderConfig) -> str:
    """How a loader draws, for the log."""
    total = sum((loader.source_shares or {}).values())
    shares = [f"{source} {share / total:.1%}" for source, share in (loader.source_shares or {}).items()]
    drawn = f"draws by source: {', '.join(shares)}" if shares else "draws by the weights of the snapshot's clips"
    runs = "a global shuffle" if loader.run_clips == 1 else f"runs of {loader.run_clips} clips of one shard, shuffled"
    return f"{drawn}; {runs}"


def open_split(
    spec: RunSpec, store: Store, split: str, say: Say
) -> tuple[Sequence[Sample | Tombstone], Sequence[Sample]]:
    """The places of the snapshot's split, and the samples among them; says which clips have been taken down."""
    places = open_places(store, spec.snapshot_id, split)
    samples = places.present()
    if len(samples) < len(places):
        gone = places.columns().gone.nonzero()[0].tolist()
        shown = [places[number].clip_id for number in gone[:GONE_SHOWN]]
        named = ", ".join([*shown, *(["…"] if len(gone) > GONE_SHOWN else [])])
        say(f"{len(gone)} of {len(places)} {split} clips have been taken down since and are left out: {named}")
    return places, samples
