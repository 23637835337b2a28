"""Sources: native annotation layouts become clips, memberships, files and rejects."""

from warehouse.config import Source
from warehouse.sources import (
    ava,
    folder,
    hmdb51,
    kinetics,
    plain_list,
    something_something,
    something_something_v1,
    ucf101,
    webvid,
)
from warehouse.sources.listing import Listing, SourceError, clip_id

__all__ = ["Listing", "SourceError", "clip_id", "read_source"]

ADAPTERS = {
    "kinetics": kinetics.read,
    "something_something_v1": something_something_v1.read,
    "something_something_v2": something_something.read,
    "ava": ava.read,
    "webvid": webvid.read,
    "ucf101": ucf101.read,
    "hmdb51": hmdb51.read,
    "list": plain_list.read,
    "folder": folder.read,
}


def read_source(source: Source) -> Listing:
    """List a source by the adapter of its kind.

    An annotation row that cannot become a clip is a row of ``rejects``; a file that is not there is a row of
    ``files`` without size.

    Raises:
        SourceError: an annotation file or the media root cannot be read at all; names the file.
    """
    return ADAPTERS[source.kind](source)
