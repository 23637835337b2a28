"""How a model is spread over processes and run in them: activation checkpointing, compilation, sharding.

In this order, which is torchtitan's: what is compiled includes the recomputation, and what is sharded is gathered
before either runs. Each of them takes a ``Block`` at a time, and none changes the names of parameters: a checkpoint
does not tell how its model was run.
"""

from functools import partial

import torch
import torch._dynamo.config as dynamo_config
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from model.blocks import Block

GRAPHS = 32
"""Of blocks that are compiled in a process. More would be a shape that changes from step to step, which is an error."""


def parallelise(model: nn.Module, device: torch.device, checkpointing: bool = False, compiled: bool = False) -> None:
    """Prepare ``model``, which is on ``device``, in place for training on all ranks; also where there is one.

    ``checkpointing``: of a block only its input is kept for the backward pass, and the rest is computed again then.
    ``compiled``: each block is compiled when it first runs (on a CPU that takes a C++ compiler). A block that cannot be
    compiled as one graph, or would be compiled for too many shapes, is an error.
    """
    for block in blocks(model):
        if checkpointing:
            checkpoint_activations(block)
        if compiled:
            compile_block(block)
    shard(model, device)


def blocks(model: nn.Module) -> list[Block]:
    """The transformer blocks of a model, encoder and decoder."""
    return [module for module in model.modules() if isinstance(module, Block)]


# Both replace a block's `forward`, not the block: a wrapper would be a part of the parameters' names, and
# `block.compile()` would compile FSDP's hooks too (and takes nothing that is checkpointed).


def checkpoint_activations(block: Block) -> None:
    """Compute the block again in the backward pass rather than keep what is in it."""
    # A block draws no random numbers (drop path comes as an argument): there is no generator's state to keep.
    block.forward = partial(  # type: ignore[method-assign]
        checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
    )


def compile_block(block: Block, backend: str = "inductor") -> None:
    """Compile the block as one graph for each shape; blocks of one width share it."""
    # Blocks of all widths and modes (training, validation, a teacher's) have one code object, and eight graphs of it is
    # where torch stops by default: four students have nine.
    dynamo_config.recompile_limit = max(dynamo_config.recompile_limit, GRAPHS)
    block.forward = torch.compile(  # type: ignore[method-assign]
        block.forward, fullgraph=True, dynamic=False, backend=backend
    )


def shard(model: nn.Module, device: torch.device) -> None:
    """Shard the model's weights over all ranks, block by block (FSDP2)."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = precision(device)
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def precision(device: torch.device) -> MixedPrecisionPolicy:
    """In which precision weights are gathered, and gradients summed: float32 on a CPU.

    On CUDA both FSDP2 and autocast (``model.objectives.mixed_precision``) have their part:

    - FSDP2 gathers weights in bfloat16: half of the communication. Autocast alone would gather float32 and keep a copy
      in bfloat16 of every weight for the backward pass, which is the whole model on every GPU.
    - Autocast says what is computed how: products and attention in bfloat16, norms, softmax and losses in float32, as
      in the released code's run. FSDP2 would cast the inputs of blocks, and so keep the residual stream in bfloat16.
    - Gradients are summed over ranks in float32. The sharded weights, what AdamW does, and checkpoints are float32.

    Products are those of autocast alone, which rounds weights to bfloat16 just before. Different: norms compute in
    float32, but with gains and shifts that were gathered in bfloat16, and so rounded like all weights.
    """
    if device.type != "cuda":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
