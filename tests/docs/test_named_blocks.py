"""On pages whose blocks have names, every block is used by a test."""

from __future__ import annotations

import pytest

from tests.docs import pages

LOADERS = ("postgres", "duckdb", "jsonl", "csv", "clickhouse", "snowflake", "bigquery", "s3", "gcs")
KNOWN = {
    "docs/targets.md": {
        *(f"{name}: {kind}" for name in LOADERS for kind in ("target.json", "meltano.yml")),
        *(f"{name}: query of events" for name in LOADERS),
        *(f"{name}: query of raw events" for name in LOADERS if name != "bigquery"),
        *(f"{name}: {kind}" for name in ("postgres", "postgres-batch", "gcs") for kind in ("config.json", "shell")),
        *(f"postgres: {kind}" for kind in ("nightly", "crontab", "config.json for deleted profiles")),
        "clickhouse: tables",
        "bucket: config.json",
        "snowflake-batch: config.json",
        "bigquery: config.json",
        "unpaired surrogate: config.json",
        *("spark: night.json", "spark: shell"),
        *(f"bulk: {kind}" for kind in ("shell", "other warehouses", "snowflake, not run", "bigquery, not run")),
    },
    "docs/meltano.md": {
        *(
            "emulator",
            "run against the emulator",
            "first steps",
            "doctor",
            "settings",
            "mistyped variable",
            "in another project",
        ),
        *("select", "job and schedule", "state", "set back", "full refresh"),
        *("backfill.sh", "several at once", "continue from the last shard"),
    },
}


@pytest.mark.parametrize("name", list(KNOWN))
def test_every_named_block_is_used_by_a_test(name: str) -> None:
    """The names of the blocks are those that the tests use."""
    assert set(pages.named(name)) == KNOWN[name]
    assert len(pages.blocks(pages.text_of(name))) == len(KNOWN[name])
