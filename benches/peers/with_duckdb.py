#!/usr/bin/env python3
"""Who was near a case, for how long? DuckDB's answer, over the pings and cases of `copresence synth`.

    python with_duckdb.py CITY grid|distance OUT.parquet THREADS MEMORY

A ping stands from its time to that of its person's next ping, at most 15 minutes, at its position. Of a person who is no
case and a case, `ms` is the sum of the overlaps in which both are in one square of 800 m (`grid`), or at most 50 m apart
(`distance`). Rows of at least 600 s (grid) or 900 s (distance) are written: person_id, case_person_id, ms. Prints the
seconds that this took, Python's own start left out.

The plan is the fastest of those tried: the cases' pings first, small enough for numpy; each of their stays is repeated for
the boxes around it and for the 15-minute slots in which a ping that overlaps it can start, so that one hash join on box and
slot finds what may overlap.
"""

import math
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

HOLD_MS = 900_000
EARTH_RADIUS_M = 6_371_008.8
METRES_PER_DEGREE = math.pi / 180 * EARTH_RADIUS_M
SQUARE_M = 800.0
DISTANCE_M_MAX = 50.0
# Boxes that only find what is near: as high as they are wide at this latitude, a little more than 50 m up to 45 degrees.
BOX_M = 60.0
BOX_LAT = 34.75
DIRECT_MS_MIN = {"grid": 600_000, "distance": 900_000}


def literal(number):
    """A double in SQL, to the last bit."""
    return f"{number:.17e}"


def squares(lat, lon):
    """The squares of the rule: rows from the equator, columns on the row's own central parallel."""
    row = np.floor(lat * METRES_PER_DEGREE / SQUARE_M)
    cos = np.cos(math.pi / 180 * ((row + 0.5) * SQUARE_M / METRES_PER_DEGREE))
    return row.astype(np.int64), np.floor(lon * METRES_PER_DEGREE * cos / SQUARE_M).astype(np.int64)


def square_columns():
    row = f"floor(lat * {literal(METRES_PER_DEGREE)} / {literal(SQUARE_M)})"
    central = f"{literal(math.pi / 180)} * (({row} + 5e-1) * {literal(SQUARE_M)} / {literal(METRES_PER_DEGREE)})"
    col = f"floor(lon * {literal(METRES_PER_DEGREE)} * cos({central}) / {literal(SQUARE_M)})"
    return f"CAST({row} AS BIGINT) AS box_row, CAST({col} AS BIGINT) AS box_col"


def box_scales():
    return METRES_PER_DEGREE / BOX_M, METRES_PER_DEGREE * math.cos(math.radians(BOX_LAT)) / BOX_M


def boxes(lat, lon):
    rows, cols = box_scales()
    return np.floor(lat * rows).astype(np.int64), np.floor(lon * cols).astype(np.int64)


def box_columns():
    rows, cols = box_scales()
    row, col = f"floor(lat * {literal(rows)})", f"floor(lon * {literal(cols)})"
    return f"CAST({row} AS BIGINT) AS box_row, CAST({col} AS BIGINT) AS box_col"


HAVERSINE_M = (
    f"2e0 * {literal(EARTH_RADIUS_M)} * asin(sqrt(power(sin(radians(a.lat - c.lat) / 2e0), 2)"
    " + cos(radians(a.lat)) * cos(radians(c.lat)) * power(sin(radians(a.lon - c.lon) / 2e0), 2)))"
)


def case_stays(pings, place):
    """The cases' stays, repeated by box and slot."""
    person, start, lat, lon = (pings[name].combine_chunks().to_numpy() for name in ("person", "start", "lat", "lon"))
    order = np.lexsort((start, person))
    person, start, lat, lon = person[order], start[order], lat[order], lon[order]
    end = start + HOLD_MS
    end[:-1] = np.where(person[1:] == person[:-1], np.minimum(end[:-1], start[1:]), end[:-1])
    row, col = squares(lat, lon) if place == "grid" else boxes(lat, lon)
    stays = {"person": person, "start": start, "end": end, "lat": lat, "lon": lon, "box_row": row, "box_col": col}
    if place == "distance":
        count = len(person)
        stays = {name: np.repeat(column, 9) for name, column in stays.items()}
        stays["box_row"] += np.tile([-1, 0, 1], 3 * count)
        stays["box_col"] += np.tile(np.repeat([-1, 0, 1], 3), count)
    first, last = (stays["start"] - HOLD_MS) // HOLD_MS, (stays["end"] - 1) // HOLD_MS
    slots = last - first + 1
    rows = np.repeat(np.arange(len(slots)), slots)
    number = np.arange(slots.sum()) - np.repeat(np.cumsum(slots) - slots, slots)
    repeated = {name: column[rows] for name, column in stays.items()}
    repeated["slot"] = first[rows] + number
    return pa.table(repeated)


def answer(city, place, out, threads, memory):
    con = duckdb.connect()
    con.execute(f"SET threads = {int(threads)}; SET memory_limit = '{memory}'; SET preserve_insertion_order = false")
    con.execute(f"SET temp_directory = '{out}.spill'")
    con.execute(f"CREATE TABLE cases AS SELECT person_id FROM '{city}/cases.parquet'")
    con.execute(
        "CREATE VIEW pings AS SELECT person_id AS person, epoch_ms(time) AS start, lat, lon"
        f" FROM read_parquet('{city}/pings/*.parquet')"
    )
    of_cases = con.sql("SELECT * FROM pings WHERE person IN (SELECT person_id FROM cases)")
    con.register("from_numpy", case_stays(of_cases.to_arrow_table(), place))
    con.execute("CREATE TABLE case_stays AS SELECT * FROM from_numpy")
    columns = square_columns() if place == "grid" else box_columns()
    near = "" if place == "grid" else f" AND {HAVERSINE_M} <= {literal(DISTANCE_M_MAX)}"
    stays = (
        "SELECT person, start, lat, lon,"
        " least(coalesce(lead(start) OVER (PARTITION BY person ORDER BY start),"
        f' start + {HOLD_MS}), start + {HOLD_MS}) AS "end",'
        f" {columns}, start // {HOLD_MS} AS slot FROM pings"
    )
    ms = 'sum(least(a."end", c."end") - greatest(a.start, c.start))'
    con.execute(
        f"COPY (SELECT a.person AS person_id, c.person AS case_person_id, CAST({ms} AS BIGINT) AS ms"
        f" FROM (SELECT * FROM ({stays}) WHERE person NOT IN (SELECT person_id FROM cases)) a"
        " JOIN case_stays c ON a.box_row = c.box_row AND a.box_col = c.box_col AND a.slot = c.slot"
        f' AND a.start < c."end" AND c.start < a."end"{near}'
        f" GROUP BY ALL HAVING {ms} >= {DIRECT_MS_MIN[place]}) TO '{out}' (FORMAT parquet)"
    )


def main(city, place, out, threads, memory):
    clock = time.monotonic()
    answer(Path(city), place, out, threads, memory)
    print(f"{time.monotonic() - clock:.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 6 or sys.argv[2] not in DIRECT_MS_MIN:
        sys.exit(__doc__)
    main(*sys.argv[1:])
