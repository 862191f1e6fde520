"""Rows of a data set on the Hugging Face Hub, through `datasets`; no code of the repository ever runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from langadapt.data.hub_retry import with_backoff, without_token
from langadapt.data.rows import Row, check_texts, missing_column, reach
from langadapt.errors import DataError
from langadapt.recipes.data import HubSource


def read_hub(source: HubSource, columns: Sequence[str]) -> Iterator[Row]:
    """Streams text columns of one split; `datasets` fetches it once and keeps it in its own cache.

    Args:
        source: repository (or a local folder laid out like one), config, split, revision.
        columns: names; a dotted name reaches into nested columns: `translation.zh`.

    Raises:
        DataError: Hub out of reach, no access, no such repository, revision, config, split or column, a
            cached copy of another revision, a blank or non-text value, no rows.
    """
    for row in read_hub_values(source, columns):
        yield check_texts(row, columns)


def read_hub_values(source: HubSource, columns: Sequence[str]) -> Iterator[Row]:
    """Like `read_hub`, with values of any type as they are."""
    data = load_hub(source)
    where = f"{source.repo}, split {source.split}"
    names: list[str] = data.column_names
    roots = [column if column in names else column.partition(".")[0] for column in columns]
    for column, root in zip(columns, roots, strict=True):
        if root not in names:
            raise missing_column(column, names, where)
    number = 0
    for batch in data.select_columns(list(dict.fromkeys(roots))).iter(batch_size=1024):
        for values in zip(*batch.values(), strict=True):
            number += 1
            place = f"{where}: row {number}"
            record = dict(zip(batch, values, strict=True))
            texts = tuple(reach(record, column, place) for column in columns)
            yield Row(place, texts)
    if not number:
        raise DataError(f"{where}: holds no rows; name another split or revision")


def load_hub(source: HubSource) -> Any:
    """One split as `datasets` holds it; raises as `read_hub`."""
    try:
        data = with_backoff(
            lambda: datasets.load_dataset(
                source.repo, source.config, split=source.split, revision=source.revision
            ),
            what=source.repo,
        )
    except (DatasetsError, HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{source.repo}: {without_token(_explain(source, error))}") from None
    _check_revision(source, data)
    return data


def _check_revision(source: HubSource, data: Any) -> None:
    """Without the Hub, `datasets` falls back to its newest cached copy, whatever revision was asked for."""
    if source.revision is None or Path(source.repo).is_dir():
        return
    folders = {part for item in data.cache_files for part in Path(item["filename"]).parts}
    if folders and source.revision not in folders:
        raise DataError(
            f"{source.repo}: the Hub is out of reach and the cache holds another revision than "
            f"{source.revision}; connect once to fetch it"
        )


def _explain(source: HubSource, error: Exception) -> str:
    text = str(error)
    page = f"https://huggingface.co/datasets/{source.repo}"
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    status = next((item.response.status_code for item in chain if isinstance(item, HfHubHTTPError)), None)
    if "gated" in text or (status in (401, 403)):
        return f"access is restricted; accept its terms at {page}, then run `hf auth login`"
    if "Revision" in text and "doesn't exist" in text:
        return f"no revision {source.revision}; {page}/commits/main lists them"
    if "doesn't exist on the Hub" in text:
        return f"not on the Hub, or private; check the name at {page}, for a private one run `hf auth login`"
    if "BuilderConfig" in text or "Config name is missing" in text:
        return f"no config '{source.config}'; {_first_line(text)}"
    if "Unknown split" in text or "Bad split" in text:
        return f"no split '{source.split}'; {_first_line(text)}"
    if "scripts are no longer supported" in text:
        return (
            "is a loading script, and no remote code is run; use a copy of it in Parquet, JSON Lines or CSV"
        )
    unreachable = (ConnectionError, OfflineModeIsEnabled, HfHubHTTPError)
    if "LocalEntryNotFoundError" in text or any(isinstance(item, unreachable) for item in chain):
        return (
            f"the Hub is out of reach ({_first_line(text):.120}) and no copy is in the cache; check the "
            "connection, HF_ENDPOINT and HF_HUB_OFFLINE"
        )
    return f"cannot be read ({_first_line(text)}); look at {page}"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given").rstrip(".")
