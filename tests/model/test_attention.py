"""Attention in oneDNN: the numbers are those written out in double precision, for whole and broken stretches."""

import pytest
import torch
from torch import Tensor

from model import attention as own
from model.attention import attention
from model.linear import in_onednn


def written_out(qkv_BN3HE: Tensor) -> Tensor:
    q, k, v = qkv_BN3HE.permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@pytest.mark.skipif(not in_onednn(torch.ones(1), torch.ones(1)), reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize("scores", [2**24, 80_000, 1])
def test_outputs_and_gradients_are_those_written_out(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All queries at once, in stretches of which the last is shorter, one by one; heads as wide as those of g."""
    generator = torch.Generator().manual_seed(0)
    tokens = own.FEWEST_TOKENS if scores > 1 else 12
    qkv = torch.randn(2, tokens, 3 * 2 * 88, generator=generator, requires_grad=True)
    gradient = torch.randn(2, tokens, 2 * 88, generator=generator)
    monkeypatch.setattr(own, "SCORES_AT_ONCE", scores)
    monkeypatch.setattr(own, "FEWEST_TOKENS", 1)
    parts = list(own._stretches(tokens))
    assert len(parts) == {2**24: 1, 80_000: 4, 1: 12}[scores]
    mixed = attention(qkv.unflatten(-1, (3, 2, 88)))
    assert mixed.is_contiguous() and mixed.grad_fn is not None
    (by_qkv,) = torch.autograd.grad(mixed, qkv, gradient)

    exact = qkv.detach().double().requires_grad_()
    expected = written_out(exact.unflatten(-1, (3, 2, 88)))
    (by_exact,) = torch.autograd.grad(expected, exact, gradient.double())
    assert (mixed - expected).abs().max() < 1e-6
    assert (by_qkv - by_exact).abs().max() < 2e-6


def test_elsewhere_and_of_few_tokens_it_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("in oneDNN")

    monkeypatch.setattr(own, "_mix_heads", never)
    many = torch.randn(1, own.FEWEST_TOKENS, 3, 1, 8)
    for qkv in (many[:, :-1], many.double(), many.to("meta")):
        assert attention(qkv).shape == (1, qkv.shape[1], 8)
    with torch.autocast("cpu", torch.bfloat16):
        attention(many)
    torch.testing.assert_close(attention(many.double()), written_out(many.double()))
    with pytest.raises(AssertionError, match="in oneDNN"):
        attention(many)


def test_pytorch_knows_all_of_the_operation() -> None:
    """Its shapes without data, its gradient, and what it leaves untouched."""
    qkv = torch.randn(1, 9, 3, 2, 4, requires_grad=True)
    torch.library.opcheck(own._mix_heads, (qkv,))
