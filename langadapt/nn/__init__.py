"""Pure torch: tensors in, tensors out; knows no file, no name and no network."""

from langadapt.nn.adapter import Adapter, normed
from langadapt.nn.extended_embedding import ExtendedEmbedding
from langadapt.nn.losses import distillation_distance, info_nce

__all__ = ["Adapter", "ExtendedEmbedding", "distillation_distance", "info_nce", "normed"]
