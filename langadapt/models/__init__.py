"""Names and files become modules: teacher, text model, student, and the artifact's files."""

from langadapt.models.artifact import Artifact as Artifact
from langadapt.models.artifact import read_artifact as read_artifact
from langadapt.models.artifact import write_artifact as write_artifact
from langadapt.models.language_model import LanguageModel as LanguageModel
from langadapt.models.language_model import LanguageSet as LanguageSet
from langadapt.models.language_model import load as load
from langadapt.models.language_model import load_set as load_set
from langadapt.models.language_model import load_teacher as load_teacher
from langadapt.models.load import ResolvedModel as ResolvedModel
from langadapt.models.load import resolve_model as resolve_model
from langadapt.models.student import Student as Student
from langadapt.models.student import TextModel as TextModel
from langadapt.models.student import load_text_model as load_text_model
from langadapt.models.teacher import Teacher as Teacher
