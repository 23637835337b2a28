"""The pre-training steps that ``benchmarks.train_step`` compares: ours, a plain one, and that of ``transformers``.

Each is made of the same weights and gets the same clips. Ours begins at the loader's uint8 frames and draws its masks;
the others get normalised float32 pixels and boolean masks ready made, as their loaders hand them over, and what these
cost is not counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from model.blocks import NORM_EPSILON, sinusoid_positions
from model.cubes import PIXEL_MEAN, PIXEL_STD, TARGET_EPSILON
from model.huggingface import config_json, to_their_names
from model.masking import Masks
from model.objectives import Clips, Draw, Pretraining
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES, Size

OURS, PLAIN, OURS_WITHOUT_ONEDNN, OURS_ENCODER_ONLY, PLAIN_ENCODER_ONLY, TRANSFORMERS = (
    "Reelhouse, dual masking",
    "plain, dual masking",
    "Reelhouse, dual masking, without oneDNN",
    "Reelhouse, encoder masking",
    "plain, encoder masking",
    "transformers, encoder masking",
)
ARMS = (OURS, PLAIN, OURS_WITHOUT_ONEDNN, OURS_ENCODER_ONLY, PLAIN_ENCODER_ONLY, TRANSFORMERS)


@dataclass(frozen=True)
class Arm:
    """A model, and the loss of its step: a scalar to go backward from."""

    model: nn.Module
    loss: Callable[[], Tensor]

    def step(self) -> float:
        """Forward, loss and backward; gradients are left for :meth:`clear`."""
        loss = self.loss()
        loss.backward()
        return loss.item()

    def clear(self) -> None:
        """Let the gradients go, as the loop does after the optimiser's step."""
        self.model.zero_grad()


def build(name: str, size: str, frames: int, image: int, batch: int) -> Arm:
    """An arm with weights and clips of its own, the same for all: seed 0."""
    encoder_only = name in (OURS_ENCODER_ONLY, PLAIN_ENCODER_ONLY, TRANSFORMERS)
    config = PretrainerConfig(SIZES[size], frames, image, decoder_mask="none" if encoder_only else "running_cell")
    ours = Pretrainer(config, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    frames_BTHWC = torch.randint(256, (batch, frames, image, image, 3), dtype=torch.uint8, generator=generator)
    draw = Draw(seed=0, step=0, rank=0, ranks=1)
    if name in (OURS, OURS_WITHOUT_ONEDNN, OURS_ENCODER_ONLY):
        clips, device = Clips(frames_BTHWC, torch.full((batch,), -1), ("noise",) * batch), torch.device("cpu")

        def loss() -> Tensor:
            before = torch.backends.mkldnn.set_flags(_enabled=name != OURS_WITHOUT_ONEDNN)[0]
            try:
                return Pretraining(ours).loss(clips, draw, device)
            finally:
                torch.backends.mkldnn.set_flags(_enabled=before)

        return Arm(ours, loss)
    masks = ours.draw_masks(batch, draw.generator("masks", torch.device("cpu")))
    hidden_BN, undecoded_BN = boolean(masks, config.grid.tokens)
    pixels_BTCHW = normalised(frames_BTHWC)
    if name == TRANSFORMERS:
        theirs = of_transformers(ours)
        return Arm(theirs, lambda: theirs(pixels_BTCHW, bool_masked_pos=hidden_BN).loss)
    plain = PlainPretrainer(config)
    plain.load_state_dict(ours.state_dict())
    pixels_BCTHW = pixels_BTCHW.transpose(1, 2).contiguous()
    return Arm(plain, lambda: plain(pixels_BCTHW, hidden_BN, undecoded_BN))


def boolean(masks: Masks, tokens: int) -> tuple[Tensor, Tensor]:
    """What the encoder does not see and what is not decoded: bool (B, tokens) each, as others keep their masks."""
    maps = torch.ones(2, len(masks.visible_BV), tokens, dtype=torch.bool)
    maps[0].scatter_(1, masks.visible_BV, False)
    maps[1].scatter_(1, masks.decoded_BM, False)
    return maps[0], maps[1]


def normalised(frames_BTHWC: Tensor) -> Tensor:
    """Pixels as others take them: float32 (B, T, C, H, W)."""
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    return ((frames_BTHWC / 255 - mean) / std).permute(0, 1, 4, 2, 3).contiguous()


def of_transformers(ours: Pretrainer) -> nn.Module:
    """``transformers``' model for pre-training with our weights; its attention is PyTorch's fused one (SDPA)."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    theirs = VideoMAEForPreTraining(VideoMAEConfig(**config_json(ours.kind, ours.config), attn_implementation="sdpa"))
    theirs.load_state_dict(to_their_names(ours.state_dict()))
    return theirs


class PlainPretrainer(nn.Module):
    """Dual masking as one would write it down from the paper; its parameters have the names of ours.

    The whole clip is embedded by the convolution and boolean masks pick from it, attention is written out, and targets
    are worked out for all cubes before some are picked.
    """

    def __init__(self, config: PretrainerConfig) -> None:
        super().__init__()
        self.config = config
        size, tokens = config.size, config.grid.tokens
        self.encoder, self.decoder = nn.Module(), nn.Module()
        kernel = (size.tubelet, size.patch, size.patch)
        self.encoder.patch_embed = nn.Module()
        self.encoder.patch_embed.proj = nn.Conv3d(3, size.dim, kernel, stride=kernel)
        self.encoder.blocks = nn.Sequential(*(_Block(size.dim, size.heads, size.hidden) for _ in range(size.depth)))
        self.encoder.norm = nn.LayerNorm(size.dim, eps=NORM_EPSILON)
        self.encoder_to_decoder = nn.Linear(size.dim, size.decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_dim))
        self.decoder.blocks = nn.Sequential(
            *(_Block(size.decoder_dim, size.decoder_heads, size.decoder_hidden) for _ in range(size.decoder_depth))
        )
        self.decoder.norm = nn.LayerNorm(size.decoder_dim, eps=NORM_EPSILON)
        self.decoder.head = nn.Linear(size.decoder_dim, size.cube_values)
        self.encoder_positions = sinusoid_positions(tokens, size.dim)
        self.decoder_positions = sinusoid_positions(tokens, size.decoder_dim)

    def forward(self, pixels_BCTHW: Tensor, hidden_BN: Tensor, undecoded_BN: Tensor) -> Tensor:
        """The loss: mean squared error of what is decoded and hidden from the encoder."""
        batch = len(pixels_BCTHW)
        tokens_BND = self.encoder.patch_embed.proj(pixels_BCTHW).flatten(2).transpose(1, 2) + self.encoder_positions
        seen_BVD = tokens_BND[~hidden_BN].reshape(batch, -1, tokens_BND.shape[-1])
        seen_BVD = self.encoder_to_decoder(self.encoder.norm(self.encoder.blocks(seen_BVD)))
        positions_BND = self.decoder_positions.expand(batch, -1, -1)
        width = positions_BND.shape[-1]
        seen_BVD = seen_BVD + positions_BND[~hidden_BN].reshape(batch, -1, width)
        asked_BMD = self.mask_token + positions_BND[~undecoded_BN].reshape(batch, -1, width)
        tokens_BLD = self.decoder.blocks(torch.cat((seen_BVD, asked_BMD), dim=1))
        predicted_BMK = self.decoder.head(self.decoder.norm(tokens_BLD[:, -asked_BMD.shape[1] :]))
        target_BMK = plain_targets(pixels_BCTHW, self.config.size)[~undecoded_BN].reshape(predicted_BMK.shape)
        error_BM = ((predicted_BMK - target_BMK) ** 2).mean(-1)
        counted_BM = hidden_BN[~undecoded_BN].reshape(error_BM.shape)
        return (error_BM * counted_BM).sum() / counted_BM.sum()


@torch.no_grad()
def plain_targets(pixels_BCTHW: Tensor, size: Size) -> Tensor:
    """Targets of all cubes, from normalised pixels: float32 (B, tokens, cube values)."""
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    cubes_BNPC = rearrange(
        pixels_BCTHW * std + mean, "b c (t u) (h p) (w q) -> b (t h w) (u p q) c",
        u=size.tubelet, p=size.patch, q=size.patch,
    )  # fmt: skip
    spread = cubes_BNPC.var(dim=-2, unbiased=True, keepdim=True).sqrt() + TARGET_EPSILON
    return ((cubes_BNPC - cubes_BNPC.mean(dim=-2, keepdim=True)) / spread).flatten(2)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = nn.functional.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


class _Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=NORM_EPSILON) for _ in range(2))
        self.attn, self.mlp = _Attention(dim, heads), _Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
