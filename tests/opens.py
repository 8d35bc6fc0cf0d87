#!/usr/bin/env python3
"""Checks that an output folder opens with DuckDB, pandas and polars, with the right column names and types.

    python tests/opens.py OUT

Each file must be read alike by all three: same columns in the same order, same types, same number of rows. Prints what
differs, then `N passed, M failed`; the exit code is 0 where nothing failed. tests/opens.sh brings the packages.
"""

import json
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow as pa

TEXT, COUNT, TIME, NUMBER, FLAG, PERSON = "text", "count", "time", "number", "flag", "person"

# What each reader calls a type. A person_id keeps the type of the job's feeds.
DUCKDB = {
    TEXT: {"VARCHAR"}, COUNT: {"BIGINT"}, TIME: {"TIMESTAMP WITH TIME ZONE"}, NUMBER: {"DOUBLE"}, FLAG: {"BOOLEAN"},
    PERSON: {"VARCHAR", "BLOB", "BIGINT"},
}
POLARS = {
    TEXT: {polars.String}, COUNT: {polars.Int64}, TIME: {polars.Datetime("ms", "UTC")}, NUMBER: {polars.Float64},
    FLAG: {polars.Boolean}, PERSON: {polars.String, polars.Binary, polars.Int64},
}
ARROW = {
    TEXT: {pa.string(), pa.large_string()}, COUNT: {pa.int64()}, TIME: {pa.timestamp("ms", "UTC")},
    NUMBER: {pa.float64()}, FLAG: {pa.bool_()},
    PERSON: {pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.int64()},
}

SOURCES = ("gps", "tower", "venue", "trip")
TABLES = {
    "candidates": {
        "person_id": PERSON, "code": TEXT, "status": TEXT, "reason": TEXT, "rule": TEXT, "case_count": COUNT,
        "case_id": TEXT, "direct_s": COUNT, "confirmed_s": COUNT, "expected_s": COUNT, "risk": NUMBER,
        "first_at": TIME, "last_at": TIME, "expires_at": TIME, "evidence_count": COUNT,
    },
    "exposures": {
        "person_id": PERSON, "case_id": TEXT, "person_is_case": FLAG, "direct_s": COUNT, "indirect_s": COUNT,
        "confirmed_s": COUNT, "longest_s": COUNT, "expected_s": COUNT, "peak_24h_s": COUNT, "dose_h": NUMBER,
        "risk": NUMBER, "encounter_count": COUNT, "distance_m_min": NUMBER, "first_at": TIME, "last_at": TIME,
        "sources": TEXT,
    },
    "encounters": {
        "person_id": PERSON, "case_id": TEXT, "start": TIME, "end": TIME, "kind": TEXT, "source": TEXT,
        "case_source": TEXT, "place": TEXT, "distance_m": NUMBER, "probability": NUMBER, "bracketed": FLAG,
    },
    "cases": {
        "case_id": TEXT, "person_id": PERSON, "infectious_from": TIME, "infectious_to": TIME,
        **{f"{source}_{figure}": COUNT for source in SOURCES for figure in ("stays", "observed_s")},
        "exposures": COUNT, "candidates": COUNT,
    },
    "rejections": {"feed": TEXT, "file": TEXT, "row": COUNT, "reason": TEXT, "column": TEXT},
}

passed, failed = 0, 0


def check(what, run):
    """One check: `run` gives what differs, or nothing."""
    global passed, failed
    try:
        differences = run()
    except Exception as error:  # Whatever a reader raises is the finding.
        differences = [f"{type(error).__name__}: {error}"]
    if differences:
        failed += 1
        print(f"FAILED {what}", *differences, sep="\n  ")
    else:
        passed += 1


def compare(expected, names_of, found):
    """Names in order, then types; `found` is a list of (name, type)."""
    names = [name for name, _ in found]
    if names != list(expected):
        return [f"columns {names}", f"expected {list(expected)}"]
    return [
        f"{name} is {kind}, expected {' or '.join(sorted(map(str, names_of[expected[name]])))}"
        for name, kind in found
        if kind not in names_of[expected[name]]
    ]


def with_duckdb(path, expected):
    columns = sql(f"DESCRIBE SELECT * FROM read_parquet({quoted(path)})")
    return compare(expected, DUCKDB, [(column[0], column[1]) for column in columns])


def with_pandas(path, expected):
    # Once as most people read it, once with the types kept: plain numpy has no whole numbers with nulls.
    plain = pandas.read_parquet(path)
    typed = pandas.read_parquet(path, dtype_backend="pyarrow")
    if list(plain.columns) != list(typed.columns):
        return [f"columns {list(plain.columns)} and {list(typed.columns)}"]
    # pandas reads text into a text type of its own, which is text whatever its layout.
    kind = lambda dtype: pa.string() if isinstance(dtype, pandas.StringDtype) else dtype.pyarrow_dtype
    return compare(expected, ARROW, [(name, kind(dtype)) for name, dtype in typed.dtypes.items()])


def with_polars(path, expected):
    return compare(expected, POLARS, list(polars.read_parquet(path).schema.items()))


def row_counts(path):
    counts = {
        "DuckDB": sql(f"SELECT count(*) FROM read_parquet({quoted(path)})")[0][0],
        "pandas": len(pandas.read_parquet(path)),
        "polars": polars.read_parquet(path).height,
    }
    return [] if len(set(counts.values())) == 1 else [f"rows {counts}"]


def csv_names(names):
    expected = list(TABLES["candidates"])
    return [] if list(names) == expected else [f"columns {list(names)}", f"expected {expected}"]


def csv_is_the_parquet(folder):
    """The same candidates in the same order, read as the types of the Parquet file."""
    parquet = f"read_parquet({quoted(folder / 'candidates.parquet')}, file_row_number = true)"
    columns = [f'"{row[0]}"' for row in sql(f"DESCRIBE SELECT * FROM {parquet}") if row[0] != "file_row_number"]
    # A binary person_id has no agreed text, so it is not compared.
    kinds = {f'"{row[0]}"': row[1] for row in sql(f"DESCRIBE SELECT * FROM {parquet}")}
    columns = [name for name in columns if kinds[name] != "BLOB"]
    typed = ", ".join(f"CAST(nullif({name}, '') AS {kinds[name]}) AS {name}" for name in columns)
    text = f"read_csv({quoted(folder / 'candidates.csv')}, header = true, all_varchar = true)"
    one = f"SELECT {', '.join(columns)} FROM {parquet} ORDER BY file_row_number"
    other = f"SELECT {typed} FROM {text}"
    differences = []
    for name, left, right in (("Parquet", one, other), ("CSV", other, one)):
        rows = sql(f"SELECT count(*) FROM (FROM ({left}) EXCEPT ALL FROM ({right}))")[0][0]
        if rows:
            differences.append(f"{rows} rows only in the {name} file")
    order = f"SELECT list(direct_s) FROM ({one})", f"SELECT list(direct_s) FROM ({other})"
    if not differences and sql(order[0]) != sql(order[1]):
        differences.append("the rows stand in another order")
    return differences


def manifest(path):
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    missing = [key for key in ("as_of", "rule") if key not in found]
    return [f"no {key}" for key in missing]


def sql(query):
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def quoted(path):
    return "'" + str(path).replace("'", "''") + "'"


def main(folder):
    for name, expected in TABLES.items():
        path = folder / f"{name}.parquet"
        check(f"{path.name} with DuckDB", lambda: with_duckdb(path, expected))
        check(f"{path.name} with pandas", lambda: with_pandas(path, expected))
        check(f"{path.name} with polars", lambda: with_polars(path, expected))
        check(f"{path.name}, rows", lambda: row_counts(path))

    path = folder / "candidates.csv"
    columns = f"DESCRIBE SELECT * FROM read_csv({quoted(path)}, header = true)"
    check("candidates.csv with DuckDB", lambda: csv_names(row[0] for row in sql(columns)))
    check("candidates.csv with pandas", lambda: csv_names(pandas.read_csv(path).columns))
    check("candidates.csv with polars", lambda: csv_names(polars.read_csv(path).columns))
    check("candidates.csv beside candidates.parquet", lambda: csv_is_the_parquet(folder))

    path = folder / "manifest.json"
    check("manifest.json", lambda: manifest(path))
    keys = f"DESCRIBE SELECT as_of, rule FROM read_json({quoted(path)})"
    check("manifest.json with DuckDB", lambda: [] if len(sql(keys)) == 2 else ["no as_of, no rule"])

    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
