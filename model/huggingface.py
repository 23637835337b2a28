"""Hugging Face's layout: names and configuration of VideoMAE in ``transformers``, to ours and back.

There the three parts of an attention's input are layers of their own (``query``, ``key``, ``value``), the key without a
bias. Earlier versions called the two biases ``q_bias`` and ``v_bias``.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from model.blocks import NORM_EPSILON
from model.classifier import ClassifierConfig
from model.cubes import PIXEL_MEAN, PIXEL_STD
from model.pretrainer import PretrainerConfig
from model.sizes import SIZES, Size
from model.weights import CheckpointError, ModelConfig

ARCHITECTURES = {"pretrainer": "VideoMAEForPreTraining", "classifier": "VideoMAEForVideoClassification"}
_BLOCK = re.compile(r"(?P<stack>(?:encoder\.|decoder\.)?)blocks\.(?P<index>\d+)\.(?P<part>.+)")
_LAYER = re.compile(r"(?P<stack>encoder\.layer|decoder\.decoder_layers)\.(?P<index>\d+)\.(?P<part>.+)")
_PARTS = {
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    "attn.proj.": "attention.output.dense.",
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}
_OLD_BIASES = {"attention.attention.q_bias": "attn.q_bias", "attention.attention.v_bias": "attn.v_bias"}
_QKV = "attn.qkv.weight"
_QKV_PARTS = tuple(f"attention.attention.{part}.weight" for part in ("query", "key", "value"))
_OUTSIDE = {
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "norm.": "layernorm.",
}


def is_huggingface(names: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of ``transformers``."""
    return any("embeddings.patch_embeddings." in name for name in names)


def to_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a model of ``transformers`` by our names; a name that is not of its VideoMAE stays as it is."""
    pretraining = "encoder_to_decoder.weight" in tensors
    encoder = "encoder." if pretraining else ""
    renamed: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix("videomae.")
        if match := _LAYER.fullmatch(bare):
            stack = "decoder." if match["stack"].startswith("decoder") else encoder
            block = f"{stack}blocks.{match['index']}."
            if match["part"] in _QKV_PARTS:
                thirds.setdefault(block + _QKV, {})[match["part"]] = tensor
                continue
            renamed[block + _our_part(match["part"])] = tensor
        elif name.startswith("classifier."):
            renamed["head." + name.removeprefix("classifier.")] = tensor
        else:
            renamed[_swapped(bare, {theirs: encoder + ours for ours, theirs in _OUTSIDE.items()})] = tensor
    for name, parts in thirds.items():
        if len(parts) == len(_QKV_PARTS):  # what is incomplete is missing, and will be listed as that
            renamed[name] = torch.cat([parts[part] for part in _QKV_PARTS])
    return renamed


def to_their_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a pre-training model or classifier of ours by the names of ``transformers``; inverse of the above."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := _BLOCK.fullmatch(name):
            stack = "decoder.decoder_layers" if match["stack"] == "decoder." else "videomae.encoder.layer"
            layer = f"{stack}.{match['index']}."
            if match["part"] == _QKV:
                for part, third in zip(_QKV_PARTS, tensor.chunk(3), strict=True):
                    renamed[layer + part] = third
            else:
                renamed[layer + _swapped(match["part"], _PARTS)] = tensor
        elif name.startswith("head."):
            renamed["classifier." + name.removeprefix("head.")] = tensor
        else:
            outside = {ours: "videomae." + theirs for ours, theirs in _OUTSIDE.items()}
            renamed[_swapped(name.removeprefix("encoder."), outside)] = tensor
    return renamed


def _our_part(part: str) -> str:
    return _OLD_BIASES.get(part) or _swapped(part, {theirs: ours for ours, theirs in _PARTS.items()})


def _swapped(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def size_of(config: Mapping[str, Any], path: str) -> Size:
    """The size that a ``config.json`` of ``transformers`` describes, by the name of ours where it is one of ours.

    Raises CheckpointError for a model that differs in more than numbers.
    """
    fixed = {"model_type": "videomae", "hidden_act": "gelu", "num_channels": 3, "qv_bias": True}
    differing = [key for key, value in fixed.items() if config.get(key, value) != value]
    different = [f"{key} = {config[key]!r} instead of {fixed[key]!r}" for key in differing]
    oblong = [key for key in ("image_size", "patch_size") if isinstance(config.get(key), list)]
    different += [f"{key} = {config[key]!r} instead of one number" for key in oblong]
    if different:
        raise CheckpointError(f"{path} is not the VideoMAE that Reelhouse has: {', '.join(different)}")
    # transformers leaves out what equals its defaults, which are those of B.
    field = {**_config_of(SIZES["B"]), **config}
    decoder = {
        "decoder_dim": field["decoder_hidden_size"],
        "decoder_heads": field["decoder_num_attention_heads"],
        "decoder_hidden": field["decoder_intermediate_size"],
        "decoder_depth": field["decoder_num_hidden_layers"],
    }
    found = Size(
        name="custom",
        dim=field["hidden_size"],
        depth=field["num_hidden_layers"],
        heads=field["num_attention_heads"],
        hidden=field["intermediate_size"],
        patch=field["patch_size"],
        tubelet=field["tubelet_size"],
        **decoder,
    )
    named = next((s for s in SIZES.values() if _encoder(s) == _encoder(found)), found)
    # A classifier's file carries the decoder's defaults, which mean nothing.
    return replace(named, **decoder) if ARCHITECTURES["pretrainer"] in config.get("architectures", ()) else named


def config_json(kind: str, config: ModelConfig) -> dict[str, Any]:
    """``config.json`` for the model. The official models' layer norm is stated: theirs has another default."""
    content = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": "videomae",
        **_config_of(config.size),
        "image_size": config.image,
        "num_frames": config.frames,
        "num_channels": 3,
        "hidden_act": "gelu",
        "qv_bias": True,
        "layer_norm_eps": NORM_EPSILON,
        "norm_pix_loss": True,
        "use_mean_pooling": not isinstance(config, PretrainerConfig),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
    }
    if isinstance(config, ClassifierConfig):
        content["id2label"] = {str(i): name for i, name in enumerate(config.class_names)}
        content["label2id"] = {name: i for i, name in enumerate(config.class_names)}
    return content


def processor_json(config: ModelConfig) -> dict[str, Any]:
    """``preprocessor_config.json``: the pixels' mean and spread are ImageNet's, which is not their default."""
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": config.image},
        "do_center_crop": True,
        "crop_size": {"height": config.image, "width": config.image},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
    }


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names of a ``config.json`` in the order of the head's rows; none where it has but numbers for them."""
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    if all(name == f"LABEL_{index}" for index, name in names.items()):
        return ()
    return tuple(names[index] for index in sorted(names))


def _config_of(size: Size) -> dict[str, int]:
    return {
        "hidden_size": size.dim,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "intermediate_size": size.hidden,
        "patch_size": size.patch,
        "tubelet_size": size.tubelet,
        "decoder_hidden_size": size.decoder_dim,
        "decoder_num_attention_heads": size.decoder_heads,
        "decoder_intermediate_size": size.decoder_hidden,
        "decoder_num_hidden_layers": size.decoder_depth,
    }


def _encoder(size: Size) -> dict[str, Any]:
    """The numbers that the encoder depends on."""
    return {key: value for key, value in asdict(size).items() if key != "name" and not key.startswith("decoder_")}
