"""Writing a tar that is the same bytes whenever its members are, and reading back what was written.

Owner, mode and time of every member are fixed, and the tar ends with the two empty blocks that the format asks for.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from warehouse.shards.errors import ShardError

_END = bytes(2 * tarfile.BLOCKSIZE)
_PIECE_BYTES = 2**20


class Written(NamedTuple):
    """A member's name, and where its bytes are in the tar."""

    name: str
    offset: int
    size: int


class TarWriter:
    """A tar being written beside its place: :meth:`add` or :meth:`copy` members, then :meth:`finish`."""

    def __init__(self, tar: Path, file: BinaryIO) -> None:
        self._tar, self._file = tar, file
        self._headers: list[bytes] = []
        self.members: list[Written] = []
        self.size = 0

    def add(self, name: str, data: bytes) -> Written:
        """Write a member's bytes."""
        member = self._begin(name, len(data))
        self._file.write(data)
        return self._end(member)

    def copy(self, name: str, source: BinaryIO, size: int) -> Written:
        """Write a member with the next ``size`` bytes of a file. Raises EOFError if there are fewer."""
        member = self._begin(name, size)
        left = size
        while left:
            piece = source.read(min(left, _PIECE_BYTES))
            if not piece:
                raise EOFError(f"{left} of {size} bytes are missing")
            self._file.write(piece)
            left -= len(piece)
        return self._end(member)

    def finish(self, digests: Sequence[str]) -> str:
        """End the tar, read it back, and return its SHA-256 once its bytes are on the disk.

        Args:
            digests: the SHA-256 that each member should have, in order.

        Raises:
            ShardError: a member does not read back so; names it.
        """
        self._file.write(_END)
        self._file.flush()
        self.size += len(_END)
        path = Path(self._file.name)
        # All three wait for the disk, or hash while the interpreter goes on.
        with ThreadPoolExecutor(2) as threads:
            synced = threads.submit(os.fsync, self._file.fileno())
            whole = threads.submit(_sha256, path)
            self._read_back(path, digests)
            synced.result()
            return whole.result()

    def _begin(self, name: str, size: int) -> Written:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uname, info.gname = size, 0o444, "reelhouse", "reelhouse"
        header = info.tobuf(tarfile.PAX_FORMAT)
        self._headers.append(header)
        self._file.write(header)
        return Written(name, self.size + len(header), size)

    def _end(self, member: Written) -> Written:
        padding = -member.size % tarfile.BLOCKSIZE
        self._file.write(bytes(padding))
        self.members.append(member)
        self.size = member.offset + member.size + padding
        return member

    def _read_back(self, path: Path, digests: Sequence[str]) -> None:
        with path.open("rb", buffering=0) as file:
            for member, header, digest in zip(self.members, self._headers, digests, strict=True):
                file.seek(member.offset - len(header))
                same, left, found = file.read(len(header)) == header, member.size, hashlib.sha256()
                while left and (piece := file.read(min(left, _PIECE_BYTES))):
                    found.update(piece)
                    left -= len(piece)
                if not same or found.hexdigest() != digest:
                    raise ShardError(f"{self._tar}: {member.name} does not read back as it should be. Check the disk.")


@contextmanager
def writing(tar: Path) -> Iterator[TarWriter]:
    """A tar to write that becomes ``tar`` at the end, by a rename; not if an error is raised."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(tar)
    temporary = tar.with_name(f"{tar.stem}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb", _PIECE_BYTES) as file:
            yield TarWriter(tar, file)
        temporary.replace(tar)
    finally:
        temporary.unlink(missing_ok=True)


def clear_leftovers(tar: Path) -> None:
    """Delete what writers of this tar have left that were killed."""
    for leftover in tar.parent.glob(f"{tar.stem}.*.tmp"):
        leftover.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES))
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(buffer[:count])
    return digest.hexdigest()
