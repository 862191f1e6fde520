"""Pure torch: tensors in, tensors out; knows no file, no name and no network."""

from langadapt.nn.adapter import Adapter, normed
from langadapt.nn.losses import distillation_distance, info_nce, relation_distance
from langadapt.nn.peft_modules import ExtendedEmbedding

__all__ = ["Adapter", "ExtendedEmbedding", "distillation_distance", "info_nce", "normed", "relation_distance"]
