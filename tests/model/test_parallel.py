"""Compiled, checkpointed and sharded models compute what plain ones do, under the same names."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from model.blocks import Attention, Block, drop_path_scales
from model.classifier import Classifier, ClassifierConfig
from model.cubes import to_cubes
from model.parallel import blocks, checkpoint_activations, compile_block, parallelise, precision, shard
from model.pretrainer import Pretrainer, PretrainerConfig, reconstruction_loss
from model.sizes import SIZES

CPU = torch.device("cpu")
TINY = SIZES["tiny"]


def pretrainer() -> Pretrainer:
    return Pretrainer(PretrainerConfig(TINY, 8, 48), torch.Generator().manual_seed(1))


def classifier() -> Classifier:
    config = ClassifierConfig(TINY, 8, 48, ("drift", "zoom", "turn"), drop_path=0.5, init_scale=1.0)
    return Classifier(config, torch.Generator().manual_seed(1))


def loss_of(model: nn.Module) -> Tensor:
    """A step's loss on three clips, with the same masks or dropped branches every time."""
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 256, (3, 8, 48, 48, 3), dtype=torch.uint8, generator=generator)
    if isinstance(model, Pretrainer):
        masks = model.draw_masks(3, generator)
        cubes_BNK = to_cubes(frames, TINY, model.config.grid)
        predicted_BMK = model(cubes_BNK, masks.visible_BV, masks.decoded_BM)
        return reconstruction_loss(predicted_BMK, torch.ones(predicted_BMK.shape), masks.counted_BM)
    assert isinstance(model, Classifier)
    drops = model.draw_drops(3, generator)
    assert drops.branch_scales_L2B is not None and (drops.branch_scales_L2B == 0).any()
    return nn.functional.cross_entropy(model(frames, drops), torch.tensor([0, 1, 2]))


def step(model: nn.Module) -> tuple[float, dict[str, Tensor]]:
    """Loss, and every gradient by its name."""
    loss = loss_of(model)
    loss.backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grad = parameter.grad
        gradients[name] = grad.full_tensor() if isinstance(grad, DTensor) else grad
    return loss.item(), gradients


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(("make", "compiled_too"), [(pretrainer, False), (classifier, True)])
def test_compiled_and_checkpointed_equal_plain(make: type, compiled_too: bool) -> None:
    """Float32: checkpointed to the bit (the same operations), compiled within 1e-6 of the largest gradient.

    Compiling takes seconds: one of the models is compiled with its recomputation, the other without.
    """
    plain_loss, plain = step(make())
    largest = max(gradient.abs().max().item() for gradient in plain.values())
    for checkpointing, compiled in ((True, False), (compiled_too, True)):
        torch._dynamo.reset()
        counters.clear()
        model = make()
        parallelise(model, CPU, checkpointing, compiled)
        loss, gradients = step(model)
        if compiled:
            assert loss == pytest.approx(plain_loss, rel=1e-6)
        else:
            assert loss == plain_loss
        assert gradients.keys() == plain.keys()
        for name, expected in plain.items():
            difference = (gradients[name] - expected).abs().max().item()
            assert difference <= (1e-6 * largest if compiled else 0), (name, checkpointing, compiled)
        graphs = counters["stats"]["unique_graphs"]
        model.zero_grad()
        assert step(model)[0] == loss
        assert counters["stats"]["unique_graphs"] == graphs  # weights that were gathered anew are no new shape


@pytest.mark.usefixtures("one_rank")
def test_names_and_values_of_a_checkpoint_do_not_tell_how_the_model_was_run() -> None:
    plain = pretrainer().state_dict()
    model = pretrainer()
    parallelise(model, CPU, checkpointing=True, compiled=True)
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    assert list(whole) == list(plain)
    assert all(torch.equal(whole[name], plain[name]) for name in plain)
    assert all(isinstance(block, FSDPModule) for block in blocks(model))


def test_blocks_of_one_width_share_a_graph_and_what_cannot_be_one_graph_is_refused() -> None:
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    model = pretrainer()
    for block in blocks(model):
        compile_block(block, backend)
    loss_of(model)
    assert (len(blocks(model)) > 2) and len(graphs) == 2  # the encoder's and the decoder's

    # Four students beside their teacher, each in training and in validation: more graphs than torch's limit of eight.
    torch._dynamo.reset()
    graphs.clear()
    for width in range(16, 96, 16):
        block = Block(width, 2, 32)
        compile_block(block, backend)
        for scales in (torch.ones(2, 1), None):
            block(torch.zeros(1, 4, width), scales)
    assert len(graphs) == 10

    class Looking(Block):
        def forward(self, tokens_BND: Tensor, branch_scales_2B: Tensor | None = None) -> Tensor:
            print(tokens_BND.sum().item())
            return super().forward(tokens_BND, branch_scales_2B)

    block = Looking(32, 2, 64)
    compile_block(block, backend)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        block(torch.zeros(1, 4, 32))


def test_recomputation_drops_the_same_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop path is an argument: two blocks that differ in checkpointing alone give the same gradient by their input."""
    calls: list[Attention] = []
    forward = Attention.forward

    def counted(attention: Attention, *args: Any) -> Tensor:
        calls.append(attention)
        return forward(attention, *args)

    monkeypatch.setattr(Attention, "forward", counted)
    plain, again = (Block(32, 2, 64) for _ in range(2))
    again.load_state_dict(plain.state_dict())
    checkpoint_activations(again)
    scales_2B = drop_path_scales(4, 6, 0.8, torch.Generator().manual_seed(0))[-1]
    assert (scales_2B == 0).any() and (scales_2B > 0).any()
    tokens_BND = torch.randn(6, 5, 32)
    inputs = [tokens_BND.clone().requires_grad_() for _ in range(2)]
    for block, one in zip((plain, again), inputs, strict=True):
        torch.manual_seed(0)
        block(one, scales_2B).square().sum().backward()
        torch.rand(7)  # whatever happens to the global generator in between
    assert inputs[0].grad is not None and inputs[1].grad is not None
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    assert calls == [plain.attn, again.attn, again.attn]


@pytest.mark.usefixtures("one_rank")
def test_bfloat16_is_for_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy of CUDA, tried on a CPU with its autocast: what is gathered, computed and summed in which type."""
    monkeypatch.setattr("model.parallel.precision", lambda device: precision(torch.device("cuda")))

    def as_autocast_on_cuda(norm: nn.LayerNorm, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), 1e-6)

    monkeypatch.setattr(nn.LayerNorm, "forward", as_autocast_on_cuda)
    model = pretrainer()
    shard(model, CPU)
    seen: dict[nn.Module, tuple[torch.dtype, torch.dtype]] = {}

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen[module] = next(module.parameters()).dtype, output.dtype

    block, projection = model.encoder.blocks[0], model.encoder.blocks[0].attn.proj
    for module in (block, projection):
        module.register_forward_hook(note)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model)
    loss.backward()
    assert seen[projection] == (torch.bfloat16, torch.bfloat16)
    assert seen[block] == (torch.float32, torch.float32)  # sharded again; the residual stream stays float32
    assert loss.dtype == torch.float32
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name


def test_a_cpu_computes_in_float32() -> None:
    assert precision(CPU).param_dtype is None


def by_name(model: nn.Module) -> Mapping[str, Tensor]:
    return dict(model.named_parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_sharding_changes_a_step_by_no_more_than_rounded_norms() -> None:
    """bfloat16 products either way: the gathered norms' gains and shifts alone are rounded in addition."""
    device = torch.device("cuda", 0)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        results = []
        for sharded in (False, True):
            model = classifier().to(device)
            if sharded:
                shard(model, device)
            generator = torch.Generator().manual_seed(2)
            frames = torch.randint(0, 256, (3, 8, 48, 48, 3), dtype=torch.uint8, generator=generator).to(device)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                logits_BC = model(frames)
            loss = nn.functional.cross_entropy(logits_BC.float(), torch.tensor([0, 1, 2], device=device))
            loss.backward()
            results.append((loss.item(), by_name(model)["head.weight"].grad))
        (alone, plain), (loss, gathered) = results
        assert loss == pytest.approx(alone, rel=2e-2)
        assert isinstance(gathered, DTensor)
        torch.testing.assert_close(gathered.full_tensor(), plain, rtol=5e-2, atol=5e-3)
    finally:
        dist.destroy_process_group()
