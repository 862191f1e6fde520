"""YAML in, frozen typed objects out. Knows no model and reads no data."""

from langadapt.recipes.data import (
    AlignedFiles,
    ClassificationRecipe,
    DataCard,
    HubSource,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    TableFiles,
    TarShards,
)
from langadapt.recipes.domain import DomainStage, HardSampling
from langadapt.recipes.find import (
    all_data_recipes,
    data_recipe,
    find_language,
    language_codes,
    shipped_data_recipes,
    shipped_folder,
)
from langadapt.recipes.language import (
    AdapterSpec,
    DistillStage,
    ExtendVocabulary,
    LanguageRecipe,
    ModelRef,
    TextModelRef,
)
from langadapt.recipes.override import override, with_absolute_paths, with_values
from langadapt.recipes.strict_yaml import dump_recipe, read_yaml
from langadapt.recipes.trains import LastLayers, Lora
from langadapt.recipes.tune import AlignStage, ContrastStage, Method, TuneStage

__all__ = [
    "AdapterSpec",
    "AlignStage",
    "AlignedFiles",
    "ClassificationRecipe",
    "ContrastStage",
    "DataCard",
    "DistillStage",
    "DomainStage",
    "ExtendVocabulary",
    "HardSampling",
    "HubSource",
    "LanguageRecipe",
    "LastLayers",
    "Lora",
    "Method",
    "ModelRef",
    "PairsRecipe",
    "ParallelRecipe",
    "RetrievalRecipe",
    "TableFiles",
    "TarShards",
    "TextModelRef",
    "TuneStage",
    "all_data_recipes",
    "data_recipe",
    "dump_recipe",
    "find_language",
    "language_codes",
    "override",
    "read_yaml",
    "shipped_data_recipes",
    "shipped_folder",
    "with_absolute_paths",
    "with_values",
]
