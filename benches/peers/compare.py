#!/usr/bin/env python3
"""Is DuckDB's answer that of copresence?

    python compare.py CITY OUT PEER.parquet SECONDS

Compares direct_s of every person who is no case and every case, from SECONDS on, in the output folder OUT with the
milliseconds in PEER.parquet, rounded down to seconds. Prints how many rows are equal; the exit code is 0 if all are.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def main(city, out, peer, seconds):
    cases = pq.read_table(Path(city) / "cases.parquet", columns=["case_id", "person_id"])
    person_of = dict(zip(cases["case_id"].to_pylist(), cases["person_id"].to_pylist()))
    columns = ["person_id", "case_id", "person_is_case", "direct_s"]
    mine = pq.read_table(Path(out) / "exposures.parquet", columns=columns)
    mine = mine.filter(pc.and_(pc.invert(mine["person_is_case"]), pc.greater_equal(mine["direct_s"], int(seconds))))
    mine_cases = (person_of[case] for case in mine["case_id"].to_pylist())
    here = set(zip(mine["person_id"].to_pylist(), mine_cases, mine["direct_s"].to_pylist()))
    peer = pq.read_table(peer)
    rounded = pc.divide(peer["ms"], pa.scalar(1_000, pa.int64()))
    there = set(zip(peer["person_id"].to_pylist(), peer["case_person_id"].to_pylist(), rounded.to_pylist()))
    equal = here == there and len(here) == mine.num_rows == peer.num_rows
    print(f"copresence {mine.num_rows} rows, DuckDB {peer.num_rows}, equal {len(here & there)}")
    for name, rows in (("copresence", here - there), ("DuckDB", there - here)):
        # Rows without their persons: enough to see what differs.
        print(*(f"only by {name}: {row[2]} s" for row in list(rows)[:3]), sep="\n", end="\n" if rows else "")
    return 0 if equal else 1


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
