"""Adapted models in the forms that other tools load."""

from langadapt.export.onnx import export_onnx as export_onnx
from langadapt.export.sentence_transformers import Probes as Probes
from langadapt.export.sentence_transformers import default_probes as default_probes
from langadapt.export.sentence_transformers import (
    export_sentence_transformers as export_sentence_transformers,
)
from langadapt.export.sentence_transformers import write_module_files as write_module_files
