"""Linear layers in oneDNN against PyTorch's own in double precision, and what they keep for the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from made_up_models import roughened
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from model import linear as layers
from model.blocks import Block

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")

ROWS, WIDTH, OUT = (3, 7), 10, 6


class Parts(nn.Module):
    """A norm and a linear layer, for the functions that use them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, OUT)


def plain(x: Tensor, parts: Parts) -> Tensor:
    return layers.linear(x, parts.linear.weight, parts.linear.bias)


def without_bias(x: Tensor, parts: Parts) -> Tensor:
    return layers.linear(x, parts.linear.weight, None)


def after_gelu(x: Tensor, parts: Parts) -> Tensor:
    return layers.gelu_linear(x, parts.linear.weight, parts.linear.bias)


def after_norm(x: Tensor, parts: Parts) -> Tensor:
    return layers.norm_linear(x, parts.norm, parts.linear.weight, parts.linear.bias)


LAYERS = [plain, without_bias, after_gelu, after_norm]


class Products(TorchDispatchMode):
    """Counts the products that oneDNN is asked for."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.mkldnn._linear_pointwise.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("frozen", ["", "x", "linear.weight", "linear", "norm.weight", "norm", "x norm"])
def test_outputs_and_gradients_equal_those_in_double_precision(
    layer: Callable[[Tensor, Parts], Tensor], frozen: str
) -> None:
    results, drawn = [], roughened(Parts())
    for dtype in (torch.float32, torch.float64):
        parts = deepcopy(drawn).to(dtype)
        generator = torch.Generator().manual_seed(1)
        # Not contiguous: what comes before a layer may hand over a view.
        x = torch.randn(WIDTH, *ROWS, generator=generator).to(dtype).permute(1, 2, 0).requires_grad_("x" not in frozen)
        for name, parameter in parts.named_parameters():
            parameter.requires_grad_(not any(name.startswith(kind) for kind in frozen.split()))
        with Products() as products:
            out = layer(x, parts)
            if out.requires_grad:
                (out * torch.randn(out.shape, generator=generator).to(dtype)).sum().backward()
        assert (products.count > 0) is (dtype == torch.float32)
        results.append({"out": out.detach(), "x": x.grad, **{name: p.grad for name, p in parts.named_parameters()}})
    ours, expected = results
    for name, value in expected.items():
        if value is None:
            assert ours[name] is None, name
        else:
            torch.testing.assert_close(ours[name].double(), value, rtol=0, atol=1e-5, msg=name)


@contextmanager
def without_onednn() -> Iterator[None]:
    torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=True)


@pytest.mark.parametrize("way", [without_onednn, lambda: torch.autocast("cpu", dtype=torch.bfloat16)])
def test_layers_are_pytorchs_own_where_onednn_is_switched_off_or_precision_is_mixed(way: Callable[[], Any]) -> None:
    with way(), Products() as products:
        after_norm(torch.randn(*ROWS, WIDTH), Parts()).sum().backward()
    assert products.count == 0


def kept_bytes(block: Block, tokens: Tensor) -> int:
    """What a block keeps for backward besides its weights."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {parameter.data_ptr() for parameter in block.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = block(tokens)
    assert out.requires_grad
    return sum(count for place, count in kept.items() if place not in weights)


def test_a_block_keeps_ten_widths_of_its_tokens_instead_of_sixteen() -> None:
    """Its input, queries, keys and values, what attention gives, its sum with the input, and the MLP's four widths; not
    the two normed inputs, nor the four of the GELU. The rest are a number or two for each token and head."""
    dim, heads, tokens = 64, 2, 200
    block, x = Block(dim, heads, 4 * dim), torch.randn(2, tokens, dim, requires_grad=True)
    width = x.nbytes
    assert 10 * width <= kept_bytes(block, x) < 10.5 * width
    with without_onednn():
        assert 16 * width <= kept_bytes(block, x) < 16.5 * width


def test_compiled_equals_eager() -> None:
    block = roughened(Block(48, 3, 80))
    x = torch.randn(2, 9, 48)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x), rtol=0, atol=1e-5)
