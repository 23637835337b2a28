"""Linear layers, which run in oneDNN on a CPU.

PyTorch gives float32 products on x86 to MKL, and MKL leaves the AVX-512 of AMD's processors alone: oneDNN, which is
part of PyTorch too, was twice as fast there (docs/model.md). Only float32 goes this way. On a GPU, under autocast, in
float64, under ``torch.compile``, and without oneDNN (``torch.backends.mkldnn.enabled``), layers are PyTorch's own.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_BUILT_IN = torch.backends.mkldnn.is_available()


class Linear(nn.Linear):
    """``torch.nn.Linear`` by :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``torch.nn.functional.linear``: (..., I) to (..., O)."""
    if in_onednn(x, weight_OI):
        return _Linear.apply(x, weight_OI, bias_O)
    return functional.linear(x, weight_OI, bias_O)


def gelu_linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    """A linear layer of the GELU of x: (..., I) to (..., O).

    In oneDNN the GELU is worked out again in the backward pass, rather than kept: it is the widest of all activations.
    """
    if in_onednn(x, weight_OI):
        return _GeluLinear.apply(x, weight_OI, bias_O)
    return functional.linear(functional.gelu(x), weight_OI, bias_O)


def norm_linear(x: Tensor, norm: nn.LayerNorm, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """A linear layer of ``norm`` of x: (..., I) to (..., O). In oneDNN the normed x is worked out again, too."""
    if in_onednn(x, weight_OI):
        return _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, weight_OI, bias_O)
    return functional.linear(norm(x), weight_OI, bias_O)


def in_onednn(x: Tensor, weight_OI: Tensor) -> bool:
    """Whether the two are multiplied in oneDNN."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight_OI.dtype == torch.float32
        and _BUILT_IN
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left @ right.T + bias``, of rows or columns that need not be contiguous: oneDNN takes transposed ones."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


def _gradients(
    needed: tuple[bool, ...], gradient: Tensor, x: Tensor, weight_OI: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a linear layer by its input, weight and bias, those that are needed."""
    rows_NO, x_NI = gradient.flatten(0, -2), x.flatten(0, -2)
    return (
        product(gradient, weight_OI.t()) if needed[0] else None,
        product(rows_NO.t(), x_NI.t()) if needed[1] else None,
        rows_NO.sum(0) if needed[2] else None,
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        return product(x, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx.needs_input_grad, gradient, *ctx.saved_tensors)


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        return product(functional.gelu(x), weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_OI = ctx.saved_tensors
        by_activation, by_weight, by_bias = _gradients(ctx.needs_input_grad, gradient, functional.gelu(x), weight_OI)
        if by_activation is None:
            return None, by_weight, by_bias
        return torch.ops.aten.gelu_backward(by_activation, x), by_weight, by_bias


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain_I: Tensor, shift_I: Tensor, epsilon: float, weight_OI: Tensor, bias_O: Tensor | None
    ) -> Tensor:
        normed, mean, reciprocal = torch.native_layer_norm(x, gain_I.shape, gain_I, shift_I, epsilon)
        ctx.save_for_backward(x, mean, reciprocal, gain_I, shift_I, weight_OI)
        ctx.epsilon = epsilon
        return product(normed, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, reciprocal, gain_I, shift_I, weight_OI = ctx.saved_tensors
        by_x, by_gain, by_shift, _, by_weight, by_bias = ctx.needs_input_grad
        normed = torch.native_layer_norm(x, gain_I.shape, gain_I, shift_I, ctx.epsilon)[0]
        needed = any((by_x, by_gain, by_shift)), by_weight, by_bias
        by_normed, *of_linear = _gradients(needed, gradient, normed, weight_OI)
        if by_normed is None:
            return None, None, None, None, *of_linear
        of_norm = torch.ops.aten.native_layer_norm_backward(
            by_normed, x, gain_I.shape, mean, reciprocal, gain_I, shift_I, (by_x, by_gain, by_shift)
        )
        return *of_norm, None, *of_linear
