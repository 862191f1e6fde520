"""Adapted models in the forms that other tools load."""

from langadapt.export.folder import Probes, default_probes
from langadapt.export.onnx import export_onnx
from langadapt.export.sentence_transformers import export_sentence_transformers, write_module_files

__all__ = ["Probes", "default_probes", "export_onnx", "export_sentence_transformers", "write_module_files"]
