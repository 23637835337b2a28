"""The masked autoencoder: an encoder of the visible cubes and a thin decoder of some of the others."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from model import cubes
from model.blocks import NORM_EPSILON, Block, CubeEmbedding, sinusoid_positions
from model.masking import Masks, draw_masks
from model.sizes import Grid, Size


@dataclass(frozen=True)
class PretrainerConfig:
    """A masked autoencoder for clips of ``frames`` frames of ``image`` × ``image`` pixels.

    The masking ratios are those of VideoMAE V2, section 3.2.
    """

    size: Size
    frames: int
    image: int
    tube_ratio: float = 0.9
    cell_ratio: float = 0.5

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
        self.head = nn.Linear(size.decoder_dim, size.cube_values)
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
        self.encoder_to_decoder = nn.Linear(size.dim, size.decoder_dim, bias=False)
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
        return draw_masks(batch, self.config.grid, self.config.tube_ratio, self.config.cell_ratio, generator)


def initialise_embedding(embedding: CubeEmbedding, generator: Generator | None) -> None:
    """PyTorch's default for a convolution: uniform within ±1/√fan-in, weight and bias."""
    bound = 1 / math.sqrt(embedding.proj.weight[0].numel())
    nn.init.uniform_(embedding.proj.weight, -bound, bound, generator=generator)
    assert embedding.proj.bias is not None
    nn.init.uniform_(embedding.proj.bias, -bound, bound, generator=generator)


def reconstruction_loss(predicted_BMK: Tensor, target_BMK: Tensor, counted_BM: Tensor) -> Tensor:
    """Mean squared error of the counted tokens, over their number in the batch: float32 scalar.

    The batch is the rank's own. Where a clip has a multiple of four time steps every clip counts equally many tokens,
    so that the mean over ranks is the mean over the global batch.

    VideoMAE V2 divides by (1 - ratio) × tokens in the paper and by the number of counted tokens in the released code;
    this is the code's.
    """
    error_BM = (predicted_BMK.float() - target_BMK).square().mean(-1)
    return (error_BM * counted_BM).sum() / counted_BM.sum()
