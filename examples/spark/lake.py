"""Load a night's batch files into Parquet partitioned by day, and save the tap's state after that.

    spark-submit examples/spark/lake.py night/messages.jsonl lake/events state.json --zone Europe/Zurich

`messages.jsonl` is what the tap wrote to stdout in a run that ended well. The tap reads whole days, so each day in its
files replaces that day in the lake; a second run over the same files changes nothing.
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
    """Read the messages, overwrite the days, save the state."""
    parser = argparse.ArgumentParser(description="Load a night's batch files into Parquet partitioned by day.")
    parser.add_argument("messages", type=Path, help="what the tap wrote to stdout")
    parser.add_argument("lake", help="folder or URL of the events")
    parser.add_argument("state", type=Path, help="file with the state, for the tap's next run")
    parser.add_argument("--zone", default="UTC", help="the tap's project_timezone: its days are the partitions")
    options = parser.parse_args()
    with options.messages.open(encoding="utf-8") as lines:
        messages = [json.loads(line) for line in lines]
    of_events = [message for message in messages if message.get("stream") == "events"]
    files = [url for message in of_events if message["type"] == "BATCH" for url in message["manifest"]]
    state = [message["value"] for message in messages if message["type"] == "STATE"][-1]
    if any(message["key_properties"] != KEY for message in of_events if message["type"] == "SCHEMA"):
        sys.exit("raw events have no event_time: set raw to false")
    if "ingested" in state["bookmarks"]["events"]:
        sys.exit("days would be overwritten by a part of their events: set incremental_by to event_time")
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
