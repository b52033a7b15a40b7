"""Load Mixpanel into a warehouse with batch files, which the tap writes and the warehouse's bulk loader reads.

    python examples/bulk/bulk.py duckdb warehouse.duckdb --state state.json --config config.json

At each STATE message, the batch files so far are upserted by key in one transaction, then the state is saved and the
files are deleted. If a run is killed, the next one continues from the saved state and upserts the same rows again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENCODING = {"format": "jsonl", "compression": "gzip"}


@dataclass
class Table:
    """A stream with the types of its columns, its key columns and the batch files to load with the next commit."""

    name: str
    columns: dict[str, str]
    key: list[str]
    files: list[Path] = field(default_factory=list)


def column_type(schema: dict[str, Any]) -> str:
    """Return the type of a column: date, date-time, integer, number, boolean, json or string."""
    types = {schema["type"]} if isinstance(schema["type"], str) else {*schema["type"]} - {"null"}
    type_ = "json" if types & {"object", "array"} else "string" if len(types) > 1 else types.pop()
    return str(schema.get("format", type_))


def save(path: Path, content: object) -> None:
    """Replace a JSON file atomically."""
    with (partial := Path(f"{path}.partial")).open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(messages: Any, warehouse: Any, state: Path) -> None:
    """Load the batch files named in BATCH messages, and save the state after each commit."""
    tables: dict[str, Table] = {}
    # The tap omits a STATE equal to the last one, so files can follow the last STATE.
    for message in itertools.chain(map(json.loads, messages), [{"type": "END"}]):
        if message["type"] == "SCHEMA":
            if not message["key_properties"]:
                sys.exit(f"{message['stream']} has no key for upserts: set raw to false")
            columns = {name: column_type(schema) for name, schema in message["schema"]["properties"].items()}
            tables[message["stream"]] = Table(message["stream"], columns, message["key_properties"])
        elif message["type"] == "BATCH":
            tables[message["stream"]].files += [Path(url.removeprefix("file://")) for url in message["manifest"]]
        elif message["type"] in {"STATE", "END"}:
            warehouse.load([table for table in tables.values() if table.files])
            if message["type"] == "STATE":
                save(state, message["value"])
            for table in tables.values():
                while table.files:
                    table.files.pop().unlink()


def main() -> int:
    """Run the tap, load its batch files and return its exit code."""
    parser = argparse.ArgumentParser(description="Load Mixpanel with batch files. Other options go to the tap.")
    parser.add_argument("warehouse", choices=["duckdb", "postgres", "clickhouse"])
    parser.add_argument("destination", help="database file, connection string or URL")
    parser.add_argument("--state", type=Path, required=True, help="state file; batch files go to STATE.batches/")
    options, tap_options = parser.parse_known_args()
    folder = Path(f"{options.state}.batches").resolve()
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for another run to end
        for leftover in folder.glob("*.json.gz*"):  # from a run that was killed
            leftover.unlink()
        warehouse = importlib.import_module(f"into_{options.warehouse}").Warehouse(options.destination)
        batches = {"encoding": ENCODING, "storage": {"root": f"file://{folder}"}, "batch_size": 100_000}
        save(folder / "config.json", {"batch_config": batches, **warehouse.tap_settings})
        command = ["tap-mixpanel-stream", *tap_options, f"--config={folder / 'config.json'}"]
        command += [f"--state={options.state}"] * options.state.exists()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as tap, contextlib.ExitStack() as stack:
            stack.callback(tap.terminate)  # does nothing once the tap has ended
            load(tap.stdout, warehouse, options.state)
            tap.wait()
    return tap.returncode if tap.returncode >= 0 else 128 - tap.returncode


if __name__ == "__main__":
    sys.exit(main())
