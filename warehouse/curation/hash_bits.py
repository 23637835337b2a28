"""The 256 bits of a frame hash: which are the low frequencies, which the mirror negates, and how they are counted.

Bit ``16 × (vertical - 1) + (horizontal - 1)`` is the sign of the coefficient of these frequencies, 1 to 16
(:mod:`warehouse.curation.frame_hashes`).
"""

import numpy as np

_vertical, _horizontal = np.meshgrid(np.arange(1, 17), np.arange(1, 17), indexing="ij")

LOW = _vertical + _horizontal <= 12
"""The 66 lowest frequencies, bool (16, 16): they change least when a picture is compressed, smooth, or seen a
sixteenth of a second later. The others tell scenes apart."""


def words(bits: np.ndarray) -> np.ndarray:
    """Bool (16, 16) or (256,) as uint64 (4,), in the bit order of the hashes."""
    return np.packbits(bits.ravel(), bitorder="little").view("<u8")


LOW_WORDS = words(LOW)

MIRROR_WORDS = words(_horizontal % 2 == 1)
"""A hash XOR these is that of the frame flipped left to right, but for the few coefficients between 0 and the median
that bits are taken against: 7 of 256 on 12,615 real frames."""


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differing bits of hashes uint64 (..., 4), broadcast; int32."""
    return np.bitwise_count(a ^ b).sum(-1, dtype=np.int32)


def distances(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Differing bits of each hash of ``a``, uint64 (n, 4), and each of ``b``, (m, 4): uint16 (n, m).

    Args:
        mask: count these bits alone, uint64 (4,).
    """
    counted = np.zeros((len(a), len(b)), np.uint16)
    for word in range(4):
        if mask is None:
            counted += np.bitwise_count(a[:, word, None] ^ b[None, :, word])
        elif mask[word]:
            counted += np.bitwise_count((a[:, word, None] ^ b[None, :, word]) & mask[word])
    return counted
