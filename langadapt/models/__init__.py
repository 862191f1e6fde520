"""Names and files become modules: teacher, text model, student, and the artifact's files."""

from langadapt.models.artifact import Artifact, read_artifact, write_artifact
from langadapt.models.language_model import LanguageModel, load
from langadapt.models.language_set import LanguageSet, load_set
from langadapt.models.load import ResolvedModel, resolve_model
from langadapt.models.student import Student
from langadapt.models.teacher import Teacher, load_teacher
from langadapt.models.text_model import TextModel, load_text_model

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
