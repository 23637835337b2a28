"""A step asks the device for nothing: run without data, it would fail where a shape or a branch hangs on a value."""


import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from model.masking import DECODER_MASKS, DecoderMask
from model.objectives import Clips, Draw, Pretraining
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES


class Peeking(Pretrainer):
    """A model that selects by a boolean mask, as one would on a CPU without a second thought."""

    def forward(self, cubes_BNK: Tensor, visible_BV: Tensor, decoded_BM: Tensor) -> Tensor:
        predicted_BMK = super().forward(cubes_BNK, visible_BV, decoded_BM)
        return predicted_BMK[torch.ones(decoded_BM.shape, dtype=torch.bool)].reshape(predicted_BMK.shape)


def without_data(model: Pretrainer) -> None:
    """A step's forward and backward pass of tensors that have a shape and no values."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        clips = Clips(torch.empty(2, 8, 48, 48, 3, dtype=torch.uint8), torch.full((2,), -1), ("a", "b"))
        Pretraining(model).loss(clips, Draw(seed=0, step=0, rank=0, ranks=1), torch.device("cpu")).backward()


@pytest.mark.parametrize("decoder_mask", DECODER_MASKS)
def test_a_step_needs_no_value_of_a_tensor(decoder_mask: DecoderMask) -> None:
    without_data(Pretrainer(PretrainerConfig(SIZES["tiny"], 8, 48, decoder_mask=decoder_mask)))


def test_a_step_that_does_is_found_out() -> None:
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        without_data(Peeking(PretrainerConfig(SIZES["tiny"], 8, 48)))
