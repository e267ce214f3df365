"""Rows are read from the usual files within limits, and searched by the operators of a schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from services.dialog.database import Table, bucket, read_rows
from services.dialog.database import reading as limits
from services.dialog.ready import ready_bot
from services.dialog.schema import Database
from services.dialog.values import canonical, number_of, time_of
from services.errors import Problem

CSV = "id,name,price\n1,Uno,10\n2,Due,20\n"
SPEC = Database(table="cafes", primary_key="id", name="name", columns={"id": "text", "name": "text", "price": "number"})


def sqlite_file(tmp_path: Path) -> bytes:
    file = tmp_path / "cafes.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE cafes (id INTEGER, name TEXT, price REAL)")
        connection.executemany("INSERT INTO cafes VALUES (?, ?, ?)", [(1, "Uno", 10), (2, "Due", 20)])
    connection.close()
    return file.read_bytes()


@pytest.mark.parametrize("form", ["csv", "semicolons", "tabs", "mark", "utf-16", "crlf", "json", "sqlite"])
def test_every_form_gives_the_same_rows(form: str, tmp_path: Path) -> None:
    data = {
        "csv": CSV.encode(),
        "semicolons": CSV.replace(",", ";").encode(),
        "tabs": CSV.replace(",", "\t").encode(),
        "mark": CSV.encode("utf-8-sig"),
        "utf-16": CSV.encode("utf-16"),
        "crlf": CSV.replace("\n", "\r\n").encode(),
        "json": b'[{"id": 1, "name": "Uno", "price": 10}, {"id": 2, "name": "Due", "price": 20.0}]',
        "sqlite": sqlite_file(tmp_path),
    }[form]
    columns, rows = read_rows(data, "cafes")
    assert columns == ["id", "name", "price"]
    assert rows == [{"id": "1", "name": "Uno", "price": "10"}, {"id": "2", "name": "Due", "price": "20"}]


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"id,name\n1,Uno,3\n", "database-row", "Line 2 has 3 values, the head has 2 columns"),
        (b"id,id\n1,2\n", "database-form", "'id' is there twice"),
        (b"", "database-form", "no columns"),
        (b"\xff\xfe\x00", "database-form", "UTF-16"),
        (b"a\xffb\n", "database-form", "Byte 1 is no UTF-8"),
        (b'{"id": 1}', "database-form", "no list of objects"),
        (b"[1, 2", "database-form", "No JSON"),
        (b'id,name\n1,"Uno\n', "database-form", "Line"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(data: bytes, code: str, said: str) -> None:
    with pytest.raises(Problem) as raised:
        read_rows(data)
    assert raised.value.code == code
    assert said in raised.value.detail
    assert raised.value.remedy


def test_too_many_cells_are_refused_before_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CELLS", 5)
    with pytest.raises(Problem, match="more than 5 cells"):
        read_rows(CSV.encode())
    monkeypatch.setattr(limits, "MOST_BYTES", 10)
    with pytest.raises(Problem, match="bytes"):
        read_rows(CSV.encode())


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("big TEXT AS (hex(zeroblob(3000000)))", "too big"),
        ("long TEXT AS (hex(zeroblob(100000)))", "characters of at most"),
        ("slow TEXT AS (" + "hex(" * 12 + "id" + ")" * 12 + ")", ""),
    ],
    ids=["big", "long", "slow"],
)
def test_a_file_that_computes_its_columns_takes_no_more_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, said: str
) -> None:
    monkeypatch.setattr(limits, "_MOST_STEPS", 1_000)
    file = tmp_path / "cafes.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE cafes (id INTEGER, {column})")
        connection.executemany("INSERT INTO cafes (id) VALUES (?)", [(number,) for number in range(200)])
    connection.close()
    with pytest.raises(Problem) as raised:
        read_rows(file.read_bytes(), "cafes")
    assert raised.value.code in ("database-form", "database-row")
    assert said in raised.value.detail


def test_values_must_be_of_their_columns_type_and_keys_their_own() -> None:
    with pytest.raises(Problem, match=r"Row 1: 'price' is 'cheap', no number"):
        Table(SPEC, [{"id": "1", "name": "Uno", "price": "cheap"}])
    with pytest.raises(Problem, match=r"Row 2: 'id' is '1', as in row 1"):
        Table(SPEC, [{"id": "1", "name": "Uno", "price": "1"}, {"id": "1", "name": "Due", "price": "2"}])


def test_operators_compare_as_their_names_say() -> None:
    table = Table(SPEC, read_rows(CSV.encode())[1])

    def names(**constraints: tuple[str, str]) -> list[str]:
        return [row["name"] for row in table.where(constraints)]

    assert names(price=("le", "ten")) == ["Uno"]
    assert names(price=("ge", "10")) == ["Uno", "Due"]
    assert names(name=("eq", "UNO"), price=("ge", "15")) == []
    assert names(name=("fuzzy", "duee")) == []
    restaurants = ready_bot("restaurant")[1]
    assert restaurants.snap("name", "pizza hut city center") == "pizza hut city centre"
    assert restaurants.snap("name", "the moon") is None


def test_beliefs_search_and_indifference_does_not() -> None:
    schema, table = ready_bot("train")
    belief = {"departure": "cambridge", "destination": "ely", "day": "monday"}
    rows = table.matching(schema, belief)
    assert rows
    later = table.matching(schema, belief | {"leave": "12:00"})
    assert later == [row for row in rows if row["leave"] >= "12:00"]
    assert table.matching(schema, belief | {"leave": "dont care"}) == rows
    assert [bucket(count, 4) for count in (0, 1, 2, 4, 5)] == ["zero", "one", "few", "few", "many"]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("half past seven", "07:30"),
        ("quarter to 9", "08:45"),
        ("7 pm", "19:00"),
        ("7.30pm", "19:30"),
        ("12 am", "00:00"),
        ("noon", "12:00"),
        ("18:05", "18:05"),
        ("25:00", None),
        ("seven", None),
        ("soon", None),
    ],
)
def test_times_are_read_as_they_are_said(said: str, value: str | None) -> None:
    assert time_of(said) == value


def test_numbers_and_answers_have_one_form() -> None:
    assert (number_of("four people"), number_of("3"), number_of("nan"), number_of("many")) == (4.0, 3.0, None, None)
    assert (canonical("Yes", "bool"), canonical("4.0", "number"), canonical(" Caf\u0065\u0301 ", "free")) == (
        "yes",
        "4",
        "caf\u00e9",
    )
