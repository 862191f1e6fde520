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
from langadapt.recipes.find import (
    all_data_recipes,
    data_recipe,
    find_language,
    override,
    shipped_folder,
    shipped_languages,
    with_absolute_paths,
    with_values,
)
from langadapt.recipes.language import (
    AdapterSpec,
    DistillStage,
    LanguageRecipe,
    ModelRef,
    TextModelRef,
)
from langadapt.recipes.stages import (
    AlignStage,
    ContrastStage,
    DomainStage,
    LastLayers,
    Lora,
    Method,
    TuneStage,
)
from langadapt.recipes.yaml import dump_recipe, read_yaml

__all__ = [
    "AdapterSpec",
    "AlignStage",
    "AlignedFiles",
    "ClassificationRecipe",
    "ContrastStage",
    "DataCard",
    "DistillStage",
    "DomainStage",
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
    "override",
    "read_yaml",
    "shipped_folder",
    "shipped_languages",
    "with_absolute_paths",
    "with_values",
]
