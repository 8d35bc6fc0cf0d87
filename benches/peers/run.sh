#!/usr/bin/env bash
# The same question to DuckDB and to copresence, on the same made-up pings: are the answers equal, and how long did each take?
#
#   benches/peers/run.sh [ROWS] [time|person|none] [grid|distance] [FOLDER]
#
# Defaults: 1e6 rows, by time, squares. DuckDB's Python packages and the pings go into FOLDER, outside the repository, and are
# kept there for the next time; without FOLDER they go into a temporary one. PAIRS=3 runs of each in turn; medians are printed.
# THREADS (all cores) are both's, MEMORY (16GB) is DuckDB's. Exits with 1 if the answers differ.
set -euo pipefail

rows=${1:-1e6} order=${2:-time} place=${3:-grid} folder=${4:-}
pairs=${PAIRS:-3} threads=${THREADS:-$(nproc)} memory=${MEMORY:-16GB}
duckdb=2.0.0 pyarrow=26.0.1 numpy=2.4.6

case $place in
  grid) keys=(rule.encounter.place=grid rule.encounter.square_m=800 rule.candidate.direct_s_min=600) seconds=600 ;;
  distance) keys=(rule.encounter.place=distance rule.encounter.distance_m_max=50 rule.candidate.direct_s_min=900) seconds=900 ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -z "$folder" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

python=$folder/venv/bin/python
[ -x "$python" ] || python3 -m venv "$folder/venv"
"$python" -m pip install --quiet --disable-pip-version-check "duckdb==$duckdb" "pyarrow==$pyarrow" "numpy==$numpy"
cargo build --release --quiet --manifest-path "$root/Cargo.toml"
target=${CARGO_TARGET_DIR:-$root/target}
copresence=$target/release/copresence
city=$folder/city-$rows-$order
[ -f "$city/job.toml" ] || "$copresence" synth "$city" --rows "$rows" --order "$order" --threads "$threads" --progress none > /dev/null

sets=()
for key in "${keys[@]}"; do sets+=(--set "$key"); done
out=$folder/out peer=$folder/peer.parquet
seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", to - from }'; }
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.3f\n", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

cat "$city"/pings/*.parquet > /dev/null # into the page cache
for ((pair = 0; pair < pairs; pair++)); do
  rm -f "$peer"
  start=$EPOCHREALTIME
  work=$("$python" "$here/with_duckdb.py" "$city" "$place" "$peer" "$threads" "$memory")
  whole=$(seconds_since "$start")
  start=$EPOCHREALTIME
  "$copresence" run "$city/job.toml" "${sets[@]}" --as-of 2022-03-22T00:15:00+08:00 --encounters none \
    --threads "$threads" --out "$out" --force --progress none > /dev/null
  mine=$(seconds_since "$start")
  echo "$whole $work $mine" $(awk -v a="$work" -v b="$mine" 'BEGIN { print a / b }')
done > "$folder/walls"

column() { cut -d ' ' -f "$1" "$folder/walls" | median; }
echo "$(date +%F), $rows rows, order $order, $place, $threads threads, medians of $pairs, wall s of a whole process:"
echo "  DuckDB $duckdb        $(column 1), without Python's start $(column 2)"
echo "  copresence          $(column 3)"
echo "  DuckDB / copresence $(column 4), without Python's start"
"$python" "$here/compare.py" "$city" "$out" "$peer" "$seconds"
