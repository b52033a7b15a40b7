#!/bin/bash
# Run tap and target once. The state is in the working directory, which must be on a persistent volume.
# SIGTERM is sent only to the tap. The target then stores all records it received and emits its state.
set -uo pipefail
exec 9> load.lock
flock -n 9 || { echo "another load is still running" >&2; exit 1; }
test -e state.json || echo '{}' > state.json
records="$(mktemp --directory)/records"
mkfifo "$records"

target-postgres --config=ENV < "$records" > new-states.jsonl &
target=$!
tap-mixpanel-stream --config=ENV --state state.json > "$records" &
tap=$!
trap 'kill -TERM "$tap" 2> /dev/null' TERM INT

# A signal interrupts `wait`, so wait again until the process has ended.
wait "$tap"
tap_code=$?
while kill -0 "$tap" 2> /dev/null; do
  wait "$tap"
  tap_code=$?
done
wait "$target"
target_code=$?
while kill -0 "$target" 2> /dev/null; do
  wait "$target"
  target_code=$?
done
rm -r "$(dirname "$records")"

if [ "$tap_code" != 0 ]; then code=$tap_code; else code=$target_code; fi
if test -s new-states.jsonl; then
  # json.tool fails on a truncated state, and mv replaces the old state in one step.
  tail -n 1 new-states.jsonl | python3 -m json.tool --compact > state.new && mv state.new state.json || code=1
fi
exit "$code"
