import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from langadapt.data.images import ParquetImage
from langadapt.data.readers import column_names, read_table
from langadapt.errors import DataError

COLUMNS = ("english", "target")


def pairs(path: Path, columns: tuple[str, ...] = COLUMNS) -> list[tuple[str, ...]]:
    return [row.values for row in read_table(path, columns)]


def fault(path: Path, columns: tuple[str, ...] = COLUMNS) -> str:
    with pytest.raises(DataError) as caught:
        pairs(path, columns)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def write(path: Path, content: bytes | str) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    if path.suffix == ".gz":
        raw = gzip.compress(raw)
    if path.suffix == ".zst":
        # Two frames, as parallel compressors write them.
        middle = len(raw) // 2
        raw = b"".join(pa.compress(part, "zstd", asbytes=True) for part in (raw[:middle], raw[middle:]))
    path.write_bytes(raw)
    return path


TSV = (
    'target\tid\tenglish\n"zwei Hunde\t1\ttwo dogs\nein "Kind"\t2\ta child\n'
    'drei\u2028Zeilen\x0b\x85\t3\tthree " lines\n'
)
TSV_PAIRS = [
    ("two dogs", '"zwei Hunde'),
    ("a child", 'ein "Kind"'),
    ('three " lines', "drei\u2028Zeilen\x0b\x85"),
]
CSV = 'english,target\n"a, b","c ""d"""\n"two\nlines",zwei\nlast,letzte\n'
CSV_PAIRS = [("a, b", 'c "d"'), ("two\nlines", "zwei"), ("last", "letzte")]
JSONL = '{"english": "a", "target": "b\\u2028c"}\n{"target": "e", "x": 1, "english": "d"}\n'
JSONL_PAIRS = [("a", "b\u2028c"), ("d", "e")]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("suffix", "content", "expected"),
    [(".tsv", TSV, TSV_PAIRS), (".csv", CSV, CSV_PAIRS), (".jsonl", JSONL, JSONL_PAIRS)],
)
def test_text_tables_read_alike_in_every_packing(
    tmp_path: Path, suffix: str, packing: str, content: str, expected: list[tuple[str, str]]
) -> None:
    path = write(tmp_path / f"rows{suffix}{packing}", content)
    assert pairs(path) == expected


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".tsv", TSV_PAIRS), (".csv", CSV_PAIRS), (".jsonl", JSONL_PAIRS)]
)
def test_bom_crlf_and_blank_end_change_nothing(
    tmp_path: Path, suffix: str, expected: list[tuple[str, str]]
) -> None:
    content = {".tsv": TSV, ".csv": CSV, ".jsonl": JSONL}[suffix]
    path = write(
        tmp_path / f"rows{suffix}", b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode() + b"\r\n"
    )
    assert pairs(path) == expected


def test_last_line_without_line_feed_counts(tmp_path: Path) -> None:
    assert pairs(write(tmp_path / "a.tsv", "english\ttarget\na\tb\nc\td")) == [("a", "b"), ("c", "d")]
    assert pairs(write(tmp_path / "a.tsv.zst", "english\ttarget\na\tb\nc\td")) == [("a", "b"), ("c", "d")]


def test_zst_larger_than_a_chunk(tmp_path: Path) -> None:
    rows = [
        (f"row {number} " + chr(0x4E00 + number % 5000) * 9, f"Zeile {number}") for number in range(30_000)
    ]
    path = tmp_path / "big.tsv.zst"
    raw = "".join(f"{a}\t{b}\n" for a, b in [COLUMNS, *rows]).encode()
    # Level -50 hardly packs: several reads, lines cut at every place.
    path.write_bytes(pa.Codec("zstd", compression_level=-50).compress(raw, asbytes=True))
    assert path.stat().st_size > 3 * 65536
    assert pairs(path) == rows


def test_dotted_columns_reach_into_nested_values(tmp_path: Path) -> None:
    records = [{"translation": {"en": "a", "zh": "b"}}, {"translation": {"en": "c", "zh": "d"}}]
    path = write(tmp_path / "n.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "n.parquet")
    for found in (path, tmp_path / "n.parquet"):
        assert pairs(found, ("translation.zh", "translation.en")) == [("b", "a"), ("d", "c")]
    assert "line 1: translation: no column 'xx'; there are: en, zh" in fault(path, ("translation.xx",))
    # A column whose own name has a dot comes first.
    assert pairs(write(tmp_path / "d.jsonl", '{"a.b": "own", "a": {"b": "nested"}}\n'), ("a.b",)) == [
        ("own",)
    ]


def test_parquet_rows_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"english": f"e{number}", "target": f"t{number}", "n": number} for number in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert pairs(path) == [(row["english"], row["target"]) for row in rows]
    assert ": no column 'tarjet'; there are: english, target, n; did you mean 'target'?" in fault(
        path, ("tarjet",)
    )
    assert ": row 1: n: expected text, got int 0" in fault(path, ("n",))
    rows[2000]["target"] = None
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert ": row 2001: target: expected text, got nothing" in fault(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not readable as Parquet" in fault(path)
    path.write_bytes(b"")
    assert "not readable as Parquet" in fault(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.tsv", "english\ttarget\na\tb\nc\n", ": line 3 has 1 cells, the first line 2"),
        ("r.tsv", "english\ttarget\na\tb\tc\n", ": line 2 has 3 cells"),
        ("r.tsv", "english\ttarget\na\tb\n\nc\td\n", ": line 3 is blank"),
        ("r.tsv", "english\ttarget\na\tb\nc\t \u3000\n", ": line 3: target: text is empty"),
        ("r.tsv", "english\ttarget\nx\t\n", ": line 2: target: text is empty"),
        (
            "r.tsv",
            "English\ttarget\nx\ty\n",
            "no column 'english'; there are: English, target; did you mean 'English'",
        ),
        ("r.tsv", "english\ttarget\tenglish\nx\ty\tz\n", "column 'english' stands 2 times"),
        ("r.tsv", "english\ttarget\n", "holds no rows"),
        ("r.tsv", "", "holds no rows"),
        ("r.jsonl", "", "holds no rows"),
        ("r.csv", 'english,target\na,b\n"c,d\ne,f\n', ": line 3: not valid CSV"),
        ("r.csv", 'english,target\n"two\nlines",b\nx\n', ": line 4 has 1 cells"),
        ("r.jsonl", '{"english": "a", "target": "b"}\n{"english": "a",}\n', ": line 2 is not valid JSON"),
        ("r.jsonl", '["a", "b"]\n', ": line 1: expected a JSON object, got list"),
        ("r.jsonl", '{"english": "a", "target": 7}\n', ": line 1: target: expected text, got int 7"),
        ("r.jsonl", '{"english": "a", "target": null}\n', "expected text, got nothing"),
        ("r.jsonl", '{"english": "a"}\n', ": line 1: no column 'target'; there are: english"),
        ("r.jsonl", '{"english": "a", "target": "\\ud83d"}\n', "half a surrogate pair"),
        ("r.jsonl", "[" * 100_000 + "\n", ": line 1 is not valid JSON"),
        ("r.txt", "a\tb\n", "unknown kind of table; expected .tsv, .csv"),
        ("r.parquet.gz", "a\tb\n", "unknown kind of table"),
        ("r.tsv", b"english\ttarget\na\tb\nc\tca\xe9\n", ": line 3, byte 5 (0xe9) is not UTF-8; save"),
        ("r.tsv", b"\xef\xbb\xbfenglish\xff\ttarget\n", ": line 1, byte 11 (0xff) is not UTF-8"),
        ("r.tsv", "english\ttarget\na\tb\n".encode("utf-16"), "it is UTF-16"),
        ("r.tsv", gzip.compress(b"english\ttarget\na\tb\n", mtime=0), "let its name end in .gz"),
    ],
)
def test_faults_name_the_place(tmp_path: Path, name: str, content: bytes | str, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert expected in fault(path)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_damaged_packing(tmp_path: Path, packing: str) -> None:
    path = write(tmp_path / f"rows.tsv{packing}", "english\ttarget\n" + "a\tb\n" * 200_000)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert "damaged or cut off" in fault(path)
    path.write_bytes(b"english\ttarget\na\tb\n")
    assert "damaged or cut off" in fault(path)


@pytest.mark.parametrize("kind", [pa.date32(), pa.duration("s"), pa.timestamp("ms")], ids=str)
def test_dates_that_python_does_not_know(tmp_path: Path, kind: pa.DataType) -> None:
    number = 2**31 - 1 if kind == pa.date32() else 2**61
    dates = pa.table(
        {
            "english": ["a"],
            "target": pa.array([number], pa.int64() if kind != pa.date32() else pa.int32()).cast(kind),
        }
    )
    pq.write_table(dates, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: ") as error:
        pairs(tmp_path / "a.parquet")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="column 'target' holds no image"):
        ParquetImage(tmp_path / "a.parquet", "target", 0).read_bytes()


def test_missing_file_folder_and_forbidden(tmp_path: Path) -> None:
    for suffix in (".tsv", ".parquet"):
        assert "no such file" in fault(tmp_path / f"none{suffix}")
        (tmp_path / f"folder{suffix}").mkdir()
        assert "is a folder" in fault(tmp_path / f"folder{suffix}")


def test_column_names(tmp_path: Path) -> None:
    assert column_names(write(tmp_path / "a.csv", CSV)) == ["english", "target"]
    assert column_names(write(tmp_path / "a.tsv", TSV)) == ["target", "id", "english"]
    assert column_names(write(tmp_path / "a.jsonl", JSONL)) == ["english", "target"]
    pq.write_table(pa.table({"x": ["1"], "y": ["2"]}), tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ["x", "y"]
