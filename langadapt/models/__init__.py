"""Names and files become modules: teacher, text model, student, and the artifact's files."""

from langadapt.models.artifact import Artifact, read_artifact, write_artifact
from langadapt.models.language_model import LanguageModel, LanguageSet, load, load_set
from langadapt.models.load import ResolvedModel, resolve_model
from langadapt.models.student import Student, TextModel, load_text_model
from langadapt.models.teacher import Teacher, load_teacher

__all__ = [
    "Artifact",
    "LanguageModel",
    "LanguageSet",
    "ResolvedModel",
    "Student",
    "Teacher",
    "TextModel",
    "load",
    "load_set",
    "load_teacher",
    "load_text_model",
    "read_artifact",
    "resolve_model",
    "write_artifact",
]
