"""The recipes that come with a written world; they say nothing that a user's own recipe could not say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Language:
    """What a recipe states about a language.

    Args:
        name: In English.
        native_name: In the language itself.
        iso639_3: Three-letter code.
        script: ISO 15924 code.
        prompts: Zero-shot templates.
        examples: Search queries for the report.
        direction: Of writing.
    """

    name: str
    native_name: str
    iso639_3: str
    script: str
    prompts: tuple[str, ...]
    examples: tuple[str, ...]
    direction: str = "ltr"


LANGUAGES: dict[str, Language] = {
    "zh": Language(
        name="Chinese",
        native_name="中文",
        iso639_3="zho",
        script="Hans",
        prompts=("画面上有{label}。", "图中有{label}。"),
        examples=("雪地里有三只黑色的猫", "一座红色的房子的左边有一棵绿色的大树", "夜空下有两艘白色的船"),
    ),
    "de": Language(
        name="German",
        native_name="Deutsch",
        iso639_3="deu",
        script="Latn",
        prompts=("Man sieht: {label}.", "Bei Nacht: {label}."),
        examples=(
            "Drei schwarze Katzen im Schnee",
            "Ein großer grüner Baum links von einem roten Haus",
            "Zwei weiße Boote unter dem Nachthimmel",
        ),
    ),
    "sw": Language(
        name="Swahili",
        native_name="Kiswahili",
        iso639_3="swa",
        script="Latn",
        prompts=("Kuna {label}.", "Mjini, kuna {label}."),
        examples=(
            "Kuna paka watatu weusi kwenye theluji",
            "Mti mkubwa wa kijani uko kushoto kwa nyumba nyekundu",
            "Mashua mbili nyeupe chini ya anga la usiku",
        ),
    ),
    "ar": Language(
        name="Arabic",
        native_name="العربية",
        iso639_3="ara",
        script="Arab",
        prompts=("هناك {label}.", "في المدينة، هناك {label}."),
        examples=("ثلاث قطط سوداء على الثلج", "شجرة خضراء كبيرة على يسار بيت أحمر", "قاربان أبيضان في الليل"),
        direction="rtl",
    ),
}


def recipe_files(code: str, language: Language, *, parallel: int, tests: int) -> dict[str, str]:
    """The three recipes of one language as YAML.

    Args:
        code: Of the language, and in the names of its files.
        language: What its recipe says.
        parallel: Rows of the parallel file.
        tests: Number of test pictures.

    Returns:
        Text by file name: the language's recipe, its parallel sentences, its test set.
    """
    return {
        f"{code}.yaml": _language_recipe(code, language),
        f"parallel.en-{code}.yaml": f"""name: parallel.en-{code}
title: Embedded world, English and {language.name}
language: {code}
licence: Apache-2.0
source:
  kind: files
  paths: [parallel.en-{code}.tsv]
expected_rows: {parallel}
""",
        f"test.{code}.yaml": f"""name: test.{code}
title: Embedded world, held-out scenes in {language.name}
language: {code}
licence: Apache-2.0
captions: [test.{code}.tsv]
images: photos
columns:
  english: english
expected_images: {tests}
expected_captions: {tests}
""",
    }


def _language_recipe(code: str, language: Language) -> str:
    prompts = "\n".join(f'  - "{prompt}"' for prompt in language.prompts)
    examples = "\n".join(f'  - "{example}"' for example in language.examples)
    return f"""code: {code}
name: {language.name}
native_name: {language.native_name}
iso639_3: {language.iso639_3}
scripts: [{language.script}]
direction: {language.direction}

teacher:
  repo: ./models/teacher
  licence: Apache-2.0
text_model:
  repo: ./models/text_model
  licence: Apache-2.0

adapter:
  bottleneck_dim: 128
  layers: 2
  heads: 4
  feedforward_dim: 256
  dropout: 0.0

distill:
  data: [parallel.en-{code}.yaml]
  epochs: 4
  batch_size: 128
  learning_rate: 2e-3
  held_out_sentences: 500

prompts:
{prompts}
english_prompts: ["There is a {{label}}."]

evaluate: [test.{code}.yaml]

examples:
{examples}
"""
