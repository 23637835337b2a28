"""Attention of tokens with one another, which runs in oneDNN on a CPU where there are many.

PyTorch's own fused attention multiplies in MKL on a CPU (see ``model.linear``). Here a head's products are oneDNN's,
a stretch of queries at a time, and scores are never kept: the backward pass works them out again. Elsewhere, and of
few tokens, where calling oneDNN for each head costs more than it saves, attention is PyTorch's.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.linear import in_onednn, product

FEWEST_TOKENS = 512
SCORES_AT_ONCE = 2**19
"""2 MiB: of 512 tokens all queries at once, of more so many fewer."""


def attention(qkv_BN3HE: Tensor) -> Tensor:
    """Softmax of queries times keys, scaled by 1 / √E, times values, for each of H heads: (B, N, H × E)."""
    if qkv_BN3HE.shape[1] >= FEWEST_TOKENS and in_onednn(qkv_BN3HE, qkv_BN3HE):
        return _mix_heads(qkv_BN3HE).flatten(2)
    q_BHNE, k_BHNE, v_BHNE = qkv_BN3HE.permute(2, 0, 3, 1, 4)
    return functional.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE).transpose(1, 2).flatten(2)


# Operations of PyTorch's, so that a step without data (model.step_memory) takes each as one, and not all their loops.


@torch.library.custom_op("reelhouse::mix_heads", mutates_args=())
def _mix_heads(qkv_BN3HE: Tensor) -> Tensor:
    mixed_BNHE = _like_a_third(qkv_BN3HE)
    for clip, head, (q_NE, k_NE, v_NE) in _heads(qkv_BN3HE):
        for rows in _stretches(len(q_NE)):
            mixed_BNHE[clip, rows, head] = product(product(q_NE[rows], k_NE).softmax(-1), v_NE.t())
    return mixed_BNHE


@torch.library.custom_op("reelhouse::mix_heads_backward", mutates_args=())
def _mix_heads_backward(gradient_BNHE: Tensor, qkv_BN3HE: Tensor) -> Tensor:
    by_qkv_BN3HE = torch.empty_like(qkv_BN3HE)
    for clip, head, (q_NE, k_NE, v_NE) in _heads(qkv_BN3HE):
        gradient_NE = gradient_BNHE[clip, :, head].contiguous()
        by_q_NE = torch.empty_like(q_NE)
        by_k_EN, by_v_EN = (torch.zeros_like(q_NE).t().contiguous() for _ in range(2))
        for rows in _stretches(len(q_NE)):
            weights_RN = product(q_NE[rows], k_NE).softmax(-1)
            by_weights_RN = product(gradient_NE[rows], v_NE)
            by_scores_RN = torch._softmax_backward_data(by_weights_RN, weights_RN, -1, weights_RN.dtype)
            by_q_NE[rows] = product(by_scores_RN, k_NE.t())
            # Transposed: the other way round oneDNN takes twice as long.
            by_k_EN += product(q_NE[rows].t(), by_scores_RN.t())
            by_v_EN += product(gradient_NE[rows].t(), weights_RN.t())
        by_qkv_BN3HE[clip, :, 0, head] = by_q_NE * q_NE.shape[-1] ** -0.5
        by_qkv_BN3HE[clip, :, 1, head] = by_k_EN.t()
        by_qkv_BN3HE[clip, :, 2, head] = by_v_EN.t()
    return by_qkv_BN3HE


@_mix_heads.register_fake
def _like_a_third(qkv_BN3HE: Tensor) -> Tensor:
    return qkv_BN3HE.new_empty(*qkv_BN3HE.shape[:2], *qkv_BN3HE.shape[3:])


@_mix_heads_backward.register_fake
def _like_all(gradient_BNHE: Tensor, qkv_BN3HE: Tensor) -> Tensor:
    return torch.empty_like(qkv_BN3HE)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient_BNHE: Tensor) -> Tensor:
    return _mix_heads_backward(gradient_BNHE, *ctx.saved_tensors)


_mix_heads.register_autograd(_backward, setup_context=_keep)


def _heads(qkv_BN3HE: Tensor) -> Iterator[tuple[int, int, tuple[Tensor, Tensor, Tensor]]]:
    """Clip and head, with its scaled queries, its keys and its values: (N, E) each."""
    clips, _, _, heads, width = qkv_BN3HE.shape
    for clip in range(clips):
        for head in range(heads):
            q_NE, k_NE, v_NE = qkv_BN3HE[clip, :, :, head].unbind(1)
            yield clip, head, (q_NE * width**-0.5, k_NE.contiguous(), v_NE.contiguous())


def _stretches(tokens: int) -> Iterator[slice]:
    """Of queries, as many as possible, and about equally many at a time."""
    parts = -(-tokens * tokens // SCORES_AT_ONCE)
    size = -(-tokens // parts)
    for start in range(0, tokens, size):
        yield slice(start, start + size)
