"""The sizes of VideoMAE V2 and the grid of cubes that a clip becomes: all architecture numbers, in one table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Cubes of a clip along time, height and width. Tokens are numbered time-major, then rows, then columns."""

    t: int
    h: int
    w: int

    @property
    def per_frame(self) -> int:
        """Tokens of one time step."""
        return self.h * self.w

    @property
    def tokens(self) -> int:
        """Tokens of a clip."""
        return self.t * self.h * self.w


@dataclass(frozen=True)
class Size:
    """Widths and depths of one model.

    ``hidden`` is the width inside an MLP, ``patch`` is in pixels, ``tubelet`` in frames. The ``decoder_*`` numbers
    are used by pre-training alone.
    """

    name: str
    dim: int
    depth: int
    heads: int
    hidden: int
    patch: int
    decoder_dim: int
    decoder_heads: int
    decoder_hidden: int
    decoder_depth: int
    tubelet: int = 2

    @property
    def cube_values(self) -> int:
        """Values in a cube: tubelet × patch × patch × RGB."""
        return self.tubelet * self.patch * self.patch * 3

    def grid(self, frames: int, image: int) -> Grid:
        """Grid of a clip of ``frames`` frames of ``image`` × ``image`` pixels.

        Raises ValueError where the clip is of nothing, or does not divide into cubes.
        """
        if min(frames, image) < 1 or frames % self.tubelet or image % self.patch:
            raise ValueError(
                f"{frames} frames of {image} px do not divide into cubes of {self.tubelet} frames × {self.patch} px"
                f" (size {self.name})"
            )
        return Grid(frames // self.tubelet, image // self.patch, image // self.patch)


# Sources: "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking" (arXiv 2303.16727), its architecture table
# for g; the released model definitions for S, B, L and H. The decoder is four blocks deep in every released recipe. The
# released giant gives its decoder the encoder's MLP ratio, 48/11, hence int(512 × 48/11).
# `tiny` is ours: for 8 frames of 48 px (4 × 6 × 6 tokens) on a CPU, where a step takes it about a tenth of a second;
# and so is `micro`, the student of a `tiny` teacher, with less than half of its work.
# Columns: dim, depth, heads, hidden, patch; the decoder's dim, heads, hidden, depth.
SIZES: dict[str, Size] = {
    "micro": Size("micro", 64, 2, 2, 128, 8, 32, 1, 128, 1),
    "tiny": Size("tiny", 96, 3, 3, 192, 8, 64, 2, 256, 2),
    "S": Size("S", 384, 12, 6, 1536, 16, 192, 3, 768, 4),
    "B": Size("B", 768, 12, 12, 3072, 16, 384, 6, 1536, 4),
    "L": Size("L", 1024, 24, 16, 4096, 16, 512, 8, 2048, 4),
    "H": Size("H", 1280, 32, 16, 5120, 16, 512, 8, 2048, 4),
    "g": Size("g", 1408, 40, 16, 6144, 14, 512, 8, 2234, 4),
}
