#!/usr/bin/env bash
# Checks that the output folder $2 opens with DuckDB, pandas and polars. Their packages go into the folder $1, which is kept
# for the next time; with "" they go into a temporary one.
set -euo pipefail

if [ $# -ne 2 ]; then
  echo "usage: tests/opens.sh VENV_FOLDER|'' OUT" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
venv=$1
if [ -z "$venv" ]; then
  venv=$(mktemp -d)
  trap 'rm -rf "$venv"' EXIT
fi
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check duckdb pandas polars pyarrow numpy
"$venv/bin/python" "$here/opens.py" "$2"
