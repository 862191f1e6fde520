"""Transformer layers of all families are found by what flows through them; a convolutional tower has none."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from langadapt.nn.peft_modules import add_bottlenecks, add_top_layer, transformer_layers

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {**TEXT, "image_size": 32, "patch_size": 16}
M2M = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
T = transformers
VIT = ("attention.o_proj", "mlp.fc2")


def text(kind: Any, config: Any) -> Callable[[], nn.Module]:
    return lambda: kind(config).eval()


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[str, str]]] = {
    "bert": (
        text(T.BertModel, T.BertConfig(vocab_size=50, **TEXT)),
        ("attention.output.dense", "output.dense"),
    ),
    "xlm-r": (
        text(T.XLMRobertaModel, T.XLMRobertaConfig(vocab_size=50, **TEXT)),
        ("attention.output.dense", "output.dense"),
    ),
    "modernbert": (
        text(T.ModernBertModel, T.ModernBertConfig(vocab_size=50, pad_token_id=0, **TEXT)),
        ("attn.Wo", "mlp.Wo"),
    ),
    "m2m100": (
        lambda: T.M2M100Model(T.M2M100Config(**M2M)).get_encoder().eval(),
        ("self_attn.out_proj", "fc2"),
    ),
    "clip text": (
        text(T.CLIPTextModel, T.CLIPTextConfig(vocab_size=50, **TEXT)),
        ("self_attn.out_proj", "mlp.fc2"),
    ),
    "clip image": (text(T.CLIPVisionModel, T.CLIPVisionConfig(**IMAGE)), ("self_attn.out_proj", "mlp.fc2")),
    "siglip image": (
        text(T.SiglipVisionModel, T.SiglipVisionConfig(**IMAGE)),
        ("self_attn.out_proj", "mlp.fc2"),
    ),
    "vit": (text(T.ViTModel, T.ViTConfig(**IMAGE)), VIT),
}


def call(module: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if "vision" in type(module).__name__.lower() or isinstance(module, T.ViTModel | T.MobileNetV2Model):
        output = module(pixel_values=torch.randn(2, 3, 32, 32, generator=generator))
    else:
        ids = torch.randint(4, 50, (2, 5), generator=generator)
        output = module(input_ids=ids, attention_mask=torch.ones_like(ids))
    found: torch.Tensor = output.last_hidden_state
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_found_and_start_as_they_were(family: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = FAMILIES[family][0]()
    layers = transformer_layers(module, lambda: call(module))
    assert len(layers) == 2
    names = {id(item): name for name, item in module.named_modules()}
    for parts in layers:
        for linear, end in zip(
            (parts.attention_out, parts.feedforward_out), FAMILIES[family][1], strict=True
        ):
            assert names[id(linear)].endswith(end)
            assert linear.out_features == 32
    assert layers[0].feedforward_out.in_features in (64, 128)
    with torch.no_grad():
        before = call(module)
        bottlenecks = add_bottlenecks(layers)
        top = add_top_layer(layers[-1])
        assert torch.equal(call(module), before)
        assert len(bottlenecks) == 4
        for added in (*bottlenecks, top):
            kept = {name: value.clone() for name, value in added.named_parameters()}
            for value in added.parameters():
                value.normal_(generator=torch.Generator().manual_seed(2))
            assert not torch.allclose(call(module), before, atol=1e-3), "it is in the way"
            for name, value in added.named_parameters():
                value.copy_(kept[name])
        assert torch.equal(call(module), before)


def test_a_convolutional_network_has_no_layers() -> None:
    module = T.MobileNetV2Model(T.MobileNetV2Config(image_size=32, depth_multiplier=0.25)).eval()
    assert transformer_layers(module, lambda: call(module)) == []
