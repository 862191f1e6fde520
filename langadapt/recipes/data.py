"""Data recipes: where a corpus or a test set comes from, what it may be used for, and how to cite it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from langadapt.recipes.yaml import CommitHash, LanguageCode, Spec


class Rows(Spec):
    """Which rows of a source's tables are read."""

    where: dict[str, str] = Field(default_factory=dict)
    """Column and value of the rows to keep: `{trg_lang: sw}`. A column that holds a list of [key, text] pairs
    must have that key: `{captions: swh_Latn}`, whose text is then the column `captions.swh_Latn`."""
    max_rows: Annotated[int, Field(gt=0)] | None = None
    """Stop after so many rows."""


class HubSource(Rows):
    """A data set on the Hugging Face Hub; only the files that are named are fetched."""

    kind: Literal["hub"]
    repo: str
    revision: CommitHash | None = None
    """Full commit hash; None only together with `unverified: true`."""
    files: tuple[str, ...] = ()
    """Files or globs: Parquet, JSON Lines, CSV or TSV. None takes those of `config` and `split`, by the Hub's
    usual names. A retrieval recipe names its files under `captions` and `english` instead."""
    config: str | None = None
    split: str = "train"
    """Both are what `langadapt languages check` compares with the repository's card."""


class DownloadSource(Rows):
    """Files from a web server or from a GitHub repository at a commit."""

    kind: Literal["download"]
    url: str | None = None
    """A folder, a file, or a zip or tar archive whose members are named below."""
    github: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+@[0-9a-f]{40}$")] | None = None
    """`owner/repository@commit`, instead of a URL."""
    files: tuple[str, ...] = ()
    """Tables below the URL; none: the URL is the table itself."""
    english: str | None = None
    target: str | None = None
    """Two files below the URL whose lines correspond, instead of tables."""
    sha256: tuple[str, ...] = ()
    """Checksums as `sha256sum` prints them: `HEX  NAME`."""

    @model_validator(mode="after")
    def _one_place(self) -> "DownloadSource":
        if (self.url is None) == (self.github is None):
            raise ValueError("give url or github, one of them")
        if (self.english is None) != (self.target is None):
            raise ValueError("give english and target together")
        return self

    @property
    def base(self) -> str:
        """The URL below which the names start."""
        if self.github is None:
            return str(self.url)
        return f"https://raw.githubusercontent.com/{self.github.replace('@', '/')}"


class TableFiles(Rows):
    """Local TSV, CSV, JSONL or Parquet files, each also .gz, .bz2 or .zst."""

    kind: Literal["files"]
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Relative paths start at the recipe's folder, or at LANGADAPT_DATA/<name> for a shipped recipe."""


class AlignedFiles(Spec):
    """Two plain files whose lines correspond (Moses format), each also .gz, .bz2 or .zst."""

    kind: Literal["aligned"]
    english: str
    target: str
    max_rows: Annotated[int, Field(gt=0)] | None = None
    """Stop after so many lines."""


class TarShards(Spec):
    """WebDataset shards: tar files in which `0001.jpg` lies beside `0001.txt` or `0001.json`."""

    kind: Literal["tar"]
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Uncompressed tar files, in the order in which they are read."""


Source = Annotated[HubSource | DownloadSource | TableFiles | AlignedFiles, Field(discriminator="kind")]
RemoteSource = Annotated[HubSource | DownloadSource, Field(discriminator="kind")]


class DataCard(Spec):
    """What every data recipe states about its data."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Equals the file's stem; in a family it starts with it."""
    title: str
    homepage: str | None = None
    licence: str
    """SPDX id where one exists, else the licence's own name, or `unknown`."""
    licence_source: str | None = None
    """Where the licence was read."""
    citation: str | None = None
    access: Literal["open", "gated", "request"] = "open"
    """`gated`: accept terms on the Hub and log in; `request`: ask the authors."""
    how_to_get: str | None = None
    """What to do by hand where the files do not fetch themselves; printed when they are missing."""
    unverified: bool = False
    """True while ids, revision, split, counts or licence have not been checked against the source."""

    @model_validator(mode="after")
    def _way_in(self) -> "DataCard":
        if self.access != "open" and not (self.homepage or self.how_to_get):
            raise ValueError(f"access is {self.access}: homepage or how_to_get must say where to ask")
        return self


class ParallelColumns(Spec):
    english: str = "english"
    target: str = "target"
    """A dotted name reaches into nested Hub columns: `translation.zh`."""


class ParallelRecipe(DataCard):
    """Parallel sentences: English and one other language."""

    language: LanguageCode
    source: Source
    columns: ParallelColumns = ParallelColumns()
    captions: bool = False
    """True where the sentences are captions of images: what retrieval is scored on."""
    blank_rows: Literal["error", "skip"] = "error"
    """What a blank side does: stop the run, or leave the row out and count it (for corpora of others)."""
    expected_rows: Annotated[int, Field(gt=0)] | None = None


class CaptionColumns(Spec):
    image: str = "image"
    """File name, or the image itself in a Parquet file."""
    name: str | None = None
    """Column that names an image which lies in the table: the same name in every language."""
    caption: str = "caption"
    english: str | None = None
    """Column with the caption's English side, where there is one."""


class PairsRecipe(DataCard):
    """Images with captions to train on."""

    language: LanguageCode
    source: Annotated[HubSource | DownloadSource | TableFiles | TarShards, Field(discriminator="kind")]
    images: str | None = None
    """Folder of the images; None where the tables of the Hub or the tar files hold them."""
    columns: CaptionColumns = CaptionColumns()
    expected_rows: Annotated[int, Field(gt=0)] | None = None


class RetrievalRecipe(DataCard):
    """A retrieval test set in the form in which it is distributed."""

    language: LanguageCode
    format: Literal["table", "lines", "coco-cn", "flickr-cn", "xtd10", "multi30k", "crossmodal-3600"] = (
        "table"
    )
    """`lines`: plain files, one caption per line; line n of each of them belongs together."""
    source: RemoteSource | None = None
    """Where the files named below are fetched from; None: they are local."""
    captions: Annotated[tuple[str, ...], Field(min_length=1)]
    """Caption files; several only where the format distributes several (Multi30k task 2)."""
    images: str | None = None
    """Folder of the images; or the URL below which each lies; or `inside`: the tables hold them; None for an
    image-free set (captions against their English sides)."""
    image_names: str | None = None
    """File with one image name per line (XTD10, Multi30k) or the split's image ids (COCO-CN, Flickr-CN)."""
    english: tuple[str, ...] = ()
    """Caption files in English of the same images, in the same format: they give the ceiling."""
    columns: CaptionColumns = CaptionColumns()
    machine_translated: bool = False
    """Whether a machine translated the captions from English."""
    which_captions: Literal["all", "first"] = "all"
    expected_images: Annotated[int, Field(gt=0)] | None = None
    """Images that are scored; not looked at in an image-free set."""
    expected_captions: Annotated[int, Field(gt=0)] | None = None
    """Captions that are scored, counted after `which_captions`."""

    @model_validator(mode="after")
    def _rows_of_tables(self) -> "RetrievalRecipe":
        if self.source and (self.source.where or self.source.max_rows) and self.format != "table":
            raise ValueError(f"where and max_rows choose rows of tables; format {self.format} has none")
        return self


class LabelColumns(Spec):
    image: str = "image"
    label: str = "label"
    """The class's name, or its number in the list of names that `datasets` writes into its files."""


class ClassificationRecipe(DataCard):
    """A zero-shot classification set: a folder of images per class, and the classes' names."""

    language: LanguageCode | None = None
    """None where `classes` holds many languages; the model's own is then taken."""
    images: str
    """Folder with one folder of images per class; or `inside`: Parquet files of the source hold them."""
    source: RemoteSource | None = None
    """Where `classes`, and images that lie `inside` its files, are fetched from; None: all is local."""
    columns: LabelColumns = LabelColumns()
    classes: str | None = None
    """Text file or YAML of names, or a JSON label list by class number; None takes the folders' names."""


DATA_KINDS: dict[str, type[DataCard]] = {
    "parallel": ParallelRecipe,
    "pairs": PairsRecipe,
    "retrieval": RetrievalRecipe,
    "classification": ClassificationRecipe,
}
"""The kinds of data recipes: folders of `data_recipes/`."""
