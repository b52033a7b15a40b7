"""Convert the batch files of a run to Parquet partitioned by day, then save the tap's state.

    spark-submit examples/spark/lake.py night/messages.jsonl lake/events state.json --zone Europe/Zurich

`messages.jsonl` is the stdout of a successful run of the tap. The tap reads complete days, so each day in the batch
files replaces that day in the lake. Converting the same files again changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql.functions import from_utc_timestamp, to_date

COLUMNS = "event_name STRING, event_time TIMESTAMP, distinct_id STRING, insert_id STRING, properties STRING"
KEY = ["event_name", "event_time", "insert_id"]


def main() -> None:
    """Read the messages, overwrite the days in the lake and save the state."""
    parser = argparse.ArgumentParser(description="Convert batch files to Parquet partitioned by day.")
    parser.add_argument("messages", type=Path, help="file with the stdout of the tap")
    parser.add_argument("lake", help="folder or URL of the Parquet files")
    parser.add_argument("state", type=Path, help="state file for the next run of the tap")
    parser.add_argument(
        "--zone",
        default="UTC",
        help="project_timezone of the tap, in which events are partitioned by day (default: UTC)",
    )
    options = parser.parse_args()
    with options.messages.open(encoding="utf-8") as lines:
        messages = [json.loads(line) for line in lines]
    event_messages = [message for message in messages if message.get("stream") == "events"]
    files = [url for message in event_messages if message["type"] == "BATCH" for url in message["manifest"]]
    states = [message["value"] for message in messages if message["type"] == "STATE"]
    if not (event_messages and states):
        sys.exit(f"{options.messages} has no events or no state: select events, and load a run that exited with 0")
    state = states[-1]
    if any(message["key_properties"] != KEY for message in event_messages if message["type"] == "SCHEMA"):
        sys.exit("raw events have no event_time: set raw to false")
    if "ingested" in state["bookmarks"]["events"]:
        sys.exit(
            "the batch files do not contain complete days, so days would lose events: set incremental_by to event_time"
        )
    if files:
        spark = SparkSession.builder.appName("mixpanel").getOrCreate()
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic")
        day = to_date(from_utc_timestamp("event_time", options.zone))
        events = spark.read.schema(COLUMNS).json(files, mode="FAILFAST").dropDuplicates(KEY).withColumn("day", day)
        events.repartition("day").write.partitionBy("day").mode("overwrite").parquet(options.lake)
    partial = options.state.with_name(f"{options.state.name}.partial")
    partial.write_text(json.dumps(state), encoding="utf-8")
    partial.replace(options.state)


if __name__ == "__main__":
    main()
