"""The masked autoencoder: an encoder of the visible cubes and a thin decoder of some of the others."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from model import cubes
from model.blocks import NORM_EPSILON, Block, CubeEmbedding, initialise_embedding, sinusoid_positions
from model.linear import Linear
from model.masking import DECODER_MASKS, DecoderMask, Masks, draw_masks
from model.sizes import Grid, Size


@dataclass(frozen=True)
class PretrainerConfig:
    """A masked autoencoder for clips of ``frames`` frames of ``image`` × ``image`` pixels.

    ``tube_ratio`` is the share of places that the encoder does not see, ``decoder_ratio`` the share of tokens that the
    decoder's mask leaves out (without meaning where ``decoder_mask`` is "none": VideoMAE V1). Defaults: VideoMAE V2,
    section 3.2.
    """

    size: Size
    frames: int
    image: int
    tube_ratio: float = 0.9
    decoder_ratio: float = 0.5
    decoder_mask: DecoderMask = "running_cell"

    def __post_init__(self) -> None:
        if self.decoder_mask not in DECODER_MASKS:
            raise ValueError(f"decoder_mask {self.decoder_mask!r} is not one of {', '.join(DECODER_MASKS)}")

    @property
    def grid(self) -> Grid:
        """The clip's cubes."""
        return self.size.grid(self.frames, self.image)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PretrainerConfig":
        """Inverse of ``dataclasses.asdict``."""
        return cls(**{**fields, "size": Size(**fields["size"])})


class Encoder(nn.Module):
    """Embeds and encodes the visible cubes alone."""

    positions_ND: Tensor

    def __init__(self, size: Size, grid: Grid) -> None:
        super().__init__()
        self.patch_embed = CubeEmbedding(size)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, size.hidden) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.dim, eps=NORM_EPSILON)
        self.register_buffer("positions_ND", sinusoid_positions(grid.tokens, size.dim), persistent=False)

    def forward(self, cubes_BNK: Tensor, visible_BV: Tensor) -> Tensor:
        """Raw cubes (0..255) and the visible token numbers to (B, V, dim)."""
        tokens_BVD = self.patch_embed(cubes.normalise(cubes.take(cubes_BNK, visible_BV)))
        tokens_BVD = tokens_BVD + self.positions_ND[visible_BV]
        for block in self.blocks:
            tokens_BVD = block(tokens_BVD)
        return self.norm(tokens_BVD)


class Decoder(nn.Module):
    """Predicts cubes from the encoded tokens and a mask token for each place to decode."""

    positions_ND: Tensor

    def __init__(self, size: Size, grid: Grid) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(size.decoder_dim, size.decoder_heads, size.decoder_hidden) for _ in range(size.decoder_depth)
        )
        self.norm = nn.LayerNorm(size.decoder_dim, eps=NORM_EPSILON)
        self.head = Linear(size.decoder_dim, size.cube_values)
        self.register_buffer("positions_ND", sinusoid_positions(grid.tokens, size.decoder_dim), persistent=False)

    def forward(self, encoded_BVD: Tensor, mask_token_11D: Tensor, visible_BV: Tensor, decoded_BM: Tensor) -> Tensor:
        """Predictions of the decoded places, in their order: (B, M, cube values)."""
        seen_BVD = encoded_BVD + self.positions_ND[visible_BV]
        asked_BMD = mask_token_11D + self.positions_ND[decoded_BM]
        tokens_BLD = torch.cat((seen_BVD, asked_BMD), dim=1)
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD)
        return self.head(self.norm(tokens_BLD[:, -decoded_BM.shape[1] :]))


class Pretrainer(nn.Module):
    """VideoMAE V2's pre-training model (section 3.1 and 3.2), with fresh weights drawn from ``generator``."""

    kind: ClassVar[str] = "pretrainer"

    def __init__(self, config: PretrainerConfig, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        size, grid = config.size, config.grid
        self.encoder = Encoder(size, grid)
        self.encoder_to_decoder = Linear(size.dim, size.decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_dim))
        self.decoder = Decoder(size, grid)
        self._initialise(generator)

    @torch.no_grad()
    def _initialise(self, generator: Generator | None) -> None:
        """Xavier for linear layers, zeros for biases, LayerNorms at (1, 0); released VideoMAE V2 code."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        initialise_embedding(self.encoder.patch_embed, generator)
        nn.init.kaiming_uniform_(self.encoder_to_decoder.weight, a=math.sqrt(5), generator=generator)
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02, generator=generator)

    def forward(self, cubes_BNK: Tensor, visible_BV: Tensor, decoded_BM: Tensor) -> Tensor:
        """Predict the normalised cubes at ``decoded_BM`` from the raw cubes (0..255) at ``visible_BV``.

        Returns (B, M, cube values); see :func:`model.cubes.targets` for what they should equal.
        """
        encoded_BVD = self.encoder_to_decoder(self.encoder(cubes_BNK, visible_BV))
        # A linear layer returns a view, which FSDP2 warns of.
        return self.decoder(encoded_BVD, self.mask_token, visible_BV, decoded_BM).clone()

    def draw_masks(self, batch: int, generator: Generator) -> Masks:
        """Masks for a batch of clips, on the generator's device."""
        config = self.config
        return draw_masks(
            batch, config.grid, config.tube_ratio, config.decoder_mask, config.decoder_ratio, generator
        )


def reconstruction_loss(predicted_BMK: Tensor, target_BMK: Tensor, counted_BM: Tensor) -> Tensor:
    """Mean squared error of the counted tokens, over their number in the batch: float32 scalar.

    The batch is the rank's own. The mean over ranks is the mean over the global batch where every clip counts equally
    many tokens: with running cells if a clip has a multiple of four time steps, with frames and without a decoder mask
    always, with random tokens never.

    VideoMAE V2 divides by (1 - ratio) × tokens in the paper and by the number of counted tokens in the released code;
    this is the code's.
    """
    error_BM = (predicted_BMK.to(target_BMK.dtype) - target_BMK).square().mean(-1)
    return (error_BM * counted_BM).sum() / counted_BM.sum()
