#!/usr/bin/env python3
"""Makes scans.parquet and cases.csv of this sample.

    pip install pyarrow tzdata
    python make.py ../../tests/data/sociopatterns_cc0/InVS13_venue_checkins.parquet

The first argument is the check-ins of InVS13 (its README says how they follow from the published contacts), the
second, if given, the folder to write to; else the two files are written beside this one.
"""

import csv
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Time 0 of the set is midnight of its first day, on the office's clocks.
ZERO_MS = int(datetime(2013, 6, 24, tzinfo=ZoneInfo("Europe/Paris")).timestamp()) * 1000
TIME = pa.timestamp("ms", tz="UTC")

CASE_COLUMNS = [
    "case_id", "person_id", "onset_at", "isolated_at", "infectious_from", "infectious_to", "report_id", "authority",
]
# Made up, one for each way of giving a range: both ends, by the days of onset and isolation, by onset alone, mixed twice.
RANGES = [
    {"infectious_from": "2013-06-24T00:00:00+02:00", "infectious_to": "2013-06-29T18:00:00+02:00"},
    {"onset_at": "2013-06-28", "isolated_at": "2013-07-01"},
    {"onset_at": "2013-07-01"},
    {"infectious_from": "2013-06-25", "isolated_at": "2013-07-03T12:00:00+02:00"},
    {"onset_at": "2013-07-02T09:00:00+02:00", "infectious_to": "2013-07-05"},
]


def main(checkins_path: Path, folder: Path) -> None:
    checkins = pq.read_table(checkins_path)
    at = lambda name: pc.add(checkins[name], ZERO_MS).cast(TIME)
    scans = pa.table({
        "person_id": checkins["device_id"],
        "time": at("in_ms"),
        "venue_id": checkins["venue_id"],
        "until": at("out_ms"),
    }).sort_by([("time", "ascending"), ("person_id", "ascending"), ("venue_id", "ascending")])
    pq.write_table(scans, folder / "scans.parquet", compression="zstd", row_group_size=2000)

    # Every 18th of the 92 persons in the order of their numbers, from the 10th on: the choice looks at no contact.
    persons = sorted(set(checkins["device_id"].to_pylist()), key=int)[9::18]
    with open(folder / "cases.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CASE_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for number, (person, infectious) in enumerate(zip(persons, RANGES, strict=True), start=1):
            writer.writerow({
                "case_id": f"case-{number}",
                "person_id": person,
                **infectious,
                "report_id": f"sample-{number}",
                "authority": "none (made up)",
            })


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)
