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
)
from langadapt.recipes.find import (
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
    LastLayers,
    Lora,
    ModelRef,
    TextModelRef,
)
from langadapt.recipes.override import override, with_absolute_paths
from langadapt.recipes.strict_yaml import dump_recipe, read_yaml

__all__ = [
    "AdapterSpec",
    "AlignedFiles",
    "ClassificationRecipe",
    "DataCard",
    "DistillStage",
    "ExtendVocabulary",
    "HubSource",
    "LanguageRecipe",
    "LastLayers",
    "Lora",
    "ModelRef",
    "PairsRecipe",
    "ParallelRecipe",
    "RetrievalRecipe",
    "TableFiles",
    "TextModelRef",
    "data_recipe",
    "dump_recipe",
    "find_language",
    "language_codes",
    "override",
    "read_yaml",
    "shipped_data_recipes",
    "shipped_folder",
    "with_absolute_paths",
]
