"""A shard's sidecar, ``SHARD.json`` beside ``SHARD.tar``: what lies where in the tar, and what it was made from.

A sidecar is written after its tar has been read back and renamed, so a shard with a sidecar that fits it is whole.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from warehouse.store import replace_file


@dataclass(frozen=True)
class StoredClip:
    """A member of a tar, which is a clip: its file is ``key`` and ``suffix`` (with the dot), its key the clip id.

    ``offset`` and ``size`` are its bytes in the tar and ``sha256`` theirs; ``codec``, ``width``, ``height`` (pixels),
    ``fps`` and ``frames`` are as stored. ``encoded`` is false where the source's bytes are stored untouched;
    ``made_from`` is a digest of what was probed of the file that it was made from.
    """

    key: str
    suffix: str
    offset: int
    size: int
    sha256: str
    codec: str
    width: int
    height: int
    fps: float
    frames: int
    encoded: bool
    made_from: str


@dataclass(frozen=True)
class Sidecar:
    """What a tar holds, in its order, and the plan's settings that its bytes depend on beside its members.

    ``bytes`` and ``sha256`` are those of the tar; of a shard that has lost all its members, which has none, 0 and
    empty. ``version`` is that of the rendition's encoder.
    """

    shard: str
    source: str
    rendition: str
    stride: int
    version: int
    bytes: int
    sha256: str
    members: tuple[StoredClip, ...]

    def write(self, tar: Path) -> None:
        """Write it beside its tar, by a rename."""
        # A line for each member: to be read by people, and faster to write than an indented object.
        of_tar = json.dumps({name: value for name, value in vars(self).items() if name != "members"}, indent=1)
        members = ",\n".join(json.dumps(vars(member)) for member in self.members)
        text = f'{of_tar.removesuffix("}").rstrip()},\n "members": [\n{members}\n]}}\n'
        replace_file(sidecar_path(tar), text.encode())

    def fits(self, tar: Path) -> bool:
        """Whether the tar is there and as long as it should be."""
        return tar.exists() and tar.stat().st_size == self.bytes


def read_sidecar(tar: Path) -> Sidecar | None:
    """The sidecar of a tar; ``None`` if there is none, or one that an older version of Reelhouse has written."""
    path = sidecar_path(tar)
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    if content.keys() != {field.name for field in fields(Sidecar)}:
        return None
    return Sidecar(**content | {"members": tuple(StoredClip(**member) for member in content["members"])})


def sidecar_path(tar: Path) -> Path:
    """Where the sidecar of a tar lies."""
    return tar.with_suffix(".json")
