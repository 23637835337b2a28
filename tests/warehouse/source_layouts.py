"""What the tests of the adapters share: files on disk, a source around them, and what every listing has to hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse.config import Source
from warehouse.schema import BY_NAME
from warehouse.sources import Listing
from warehouse.store import Store

ID = "abcdefghij{}".format  # 11 characters with one more


def video(root: Path, path: str, content: bytes = b"video") -> Path:
    """A file that no adapter opens: they list, and probing looks inside."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def source(kind: str, root: Path, annotations: dict[str, Path], **changes: Any) -> Source:
    root.mkdir(exist_ok=True)
    basic = Source("one", kind, root, annotations, (), 4, "CC BY 4.0", "youtube", 0, {}, {}, {})
    return replace(basic, **changes)


def rejected(listing: Listing) -> list[tuple[int, str]]:
    return [(reject["row"], reject["error_class"]) for reject in listing.rejects]


def fits_tables(listing: Listing) -> None:
    """The listing fits the schemas, and its keys are unique."""
    for name in ("clips", "memberships", "files", "rejects"):
        rows, table = getattr(listing, name), BY_NAME[name]
        assert pa.Table.from_pylist(rows, schema=table.schema).to_pylist() == rows
        assert len({tuple(row[column] for column in table.key) for row in rows}) == len(rows), name


def store_and_compare(tmp_path: Path, listing: Listing) -> None:
    """The listing survives Parquet unchanged, and its keys are unique."""
    fits_tables(listing)
    store = Store(tmp_path / "store")
    for name in ("clips", "memberships", "files", "rejects"):
        store.write(name, getattr(listing, name), part="one")
        assert store.rows(name, part="one") == getattr(listing, name)


def files_of(listing: Listing) -> list[tuple[object, ...]]:
    """What is listed of each clip, in order: native id, path, bytes and where in the file the clip is."""
    native = {clip["clip_id"]: clip["native_id"] for clip in listing.clips}
    names = ("path", "bytes", "member", "from_ms", "to_ms", "frame_rate", "first_frame", "frame_count")
    return [(native[file["clip_id"]], *(file[name] for name in names)) for file in listing.files]


def members_of(listing: Listing) -> list[tuple[object, ...]]:
    """What each line became: its number, native id, split and class."""
    native = {clip["clip_id"]: clip["native_id"] for clip in listing.clips}
    return [(m["annotation_row"], native[m["clip_id"]], m["split"], m["label"]) for m in listing.memberships]


WHOLE = (None, None, None, None, None, None)
"""The end of a row of ``files_of`` for a clip that is a whole video."""
