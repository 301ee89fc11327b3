"""Tables of text: what is read, what is missing, and every way a file can be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spherometer.errors import InputError
from spherometer.stores import column_values, read_table


def written(place: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = place / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def test_commas_tabs_quotes_and_line_ends(tmp_path: Path) -> None:
    wanted = {"participant_id": ["sub-1", "sub-2"], "age": ["34.5", "n/a"], "note": ["a, b", ""]}
    comma = 'participant_id,age,note\nsub-1,34.5,"a, b"\nsub-2,n/a,\n'
    assert read_table(written(tmp_path, comma)) == wanted
    assert read_table(written(tmp_path, comma.replace("\n", "\r\n"))) == wanted
    assert read_table(written(tmp_path, b"\xef\xbb\xbf" + comma.encode())) == wanted
    assert read_table(written(tmp_path, comma.removesuffix("\n") + "\n\n  \n")) == wanted
    tab = "participant_id\tage\tnote\nsub-1\t 34.5 \ta, b\nsub-2\tn/a\t\n"
    assert read_table(written(tmp_path, tab, "t.TSV")) == wanted


def test_rows_of_nothing_but_missing_values_stay(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "age,sex\n1,f\n,\n3,m\n"))["age"] == ["1", "", "3"]
    assert read_table(written(tmp_path, "age\n1\nn/a\n\n3\n"))["age"] == ["1", "n/a", "3"]


def test_columns_become_numbers_or_names() -> None:
    assert column_values(["1", "-2.5", "+.5e1", "7."], "age") == [1.0, -2.5, 5.0, 7.0]
    assert column_values(["f", "m", "N/A", "", "NaN", "null", "None", "NA"], "sex") == ["f", "m"] + [None] * 6
    assert column_values(["34", "n/a"], "age") == [34.0, None]
    assert column_values(["1", "2"], "site", as_text=True) == ["1", "2"]
    assert column_values(["n/a"], "age") == [None]
    assert column_values(["1_0", "inf", "0x1"], "name") == ["1_0", "inf", "0x1"]
    assert column_values(["1", "a", "b"], "site") == ["1", "a", "b"]
    assert column_values(["1", "2", "b"], "site", as_text=True) == ["1", "2", "b"]


def test_a_slip_among_ages_does_not_make_categories_of_them() -> None:
    with pytest.raises(InputError) as caught:
        column_values(["34", "41", "unknown", "n/a"], "column 'age' of 't.csv'")
    assert str(caught.value) == (
        "read_table: column 'age' of 't.csv' must hold numbers alone, or names alone, because numbers are "
        "compared by their differences, names for equality. Got 1 of 3 cells that are no numbers, the "
        "first is "
        "'unknown'. Correct them, write n/a where a value is missing, or give the column a categorical "
        "kernel."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n1,2,3\n",
            "have 2 cells in every line, because the first line names so many columns. Got 3 cells in "
            "line 3. "
            "Correct that line.",
        ),
        (
            "a,b\n1\n",
            "have 2 cells in every line, because the first line names so many columns. Got 1 cells in "
            "line 2. "
            "Correct that line.",
        ),
        (
            "a,a\n1,2\n",
            "name every column once, because one would hide the other. Got two columns named 'a'. "
            "Rename one of "
            "them.",
        ),
        (
            "a,\n1,2\n",
            "name every column in its first line, because columns are chosen by name. Got no name for column "
            "2. Name it, or remove it.",
        ),
        (
            "",
            "hold a line of names and at least one row, because row i says something about sample i. Got an "
            "empty file. Check the path.",
        ),
        (
            "a,b\n",
            "hold a line of names and at least one row, because row i says something about sample i. "
            "Got names "
            "alone. Check the path.",
        ),
        (
            'a,b\n"1"x,2\n',
            "be a table, because its cells are read one by one. Got line 2: ',' expected after '\"'. Save it "
            "again.",
        ),
        (
            b"a,b\n\xff,2\n",
            "be UTF-8 text, because names must be read alike everywhere. Got 'utf-8' codec can't decode byte "
            "0xff in position 4: invalid start byte. Convert it.",
        ),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value) == f"read_table: file {str(path)!r} must {message}"


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, got in (
        ("pipe.csv", "a pipe, socket or device"),
        ("folder.csv", "a directory"),
        ("absent.csv", "no such file or directory"),
        ("x\0.csv", "embedded null byte"),
    ):
        with pytest.raises(InputError, match=f"Got {got}. "):
            read_table(tmp_path / name)
    with pytest.raises(InputError, match=r"must end in \.csv or \.tsv, because .* Got '\.xlsx'\. Save"):
        read_table(tmp_path / "t.xlsx")


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spherometer.stores._table._MAX_BYTES", 10)
    with pytest.raises(InputError, match="have at most 0 MiB"):
        read_table(written(tmp_path, "a,b\n1,2\n3,4\n"))
