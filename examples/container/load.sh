#!/bin/bash
# Run tap and target once. The state is in the working directory, which must be on a persistent volume.
# SIGTERM is sent only to the tap. The target then stores all records it received and emits its state.
set -uo pipefail
test -s state.json || echo '{}' > state.json
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

if test -s new-states.jsonl; then
  tail -n 1 new-states.jsonl > state.new && mv state.new state.json
fi
if [ "$tap_code" != 0 ]; then exit "$tap_code"; fi
exit "$target_code"
