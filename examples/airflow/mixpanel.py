"""Load years of Mixpanel into PostgreSQL, with one run for each month, followed by a nightly run.

    mixpanel_tables    once, started by hand, before all others
    mixpanel_profiles  once, started by hand: profiles have no history
    mixpanel_history   one run for each month from FIRST_DAY to NIGHTLY_START, CONCURRENT_SHARDS at a time
    mixpanel_nightly   one run for each day from NIGHTLY_START on, with all profiles

No run needs a Singer state: its data interval defines the days it reads. Put `pipeline.py` of examples/dagster beside
this file. The settings are in the environment, see docs/backfill.md.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowException
from pipeline import run

FIRST_DAY = pendulum.from_format(os.environ["MIXPANEL_FIRST_MONTH"], "YYYY-MM")
LAST_MONTH = pendulum.from_format(os.environ["MIXPANEL_LAST_MONTH"], "YYYY-MM")
NIGHTLY_START = LAST_MONTH.add(months=1)
CONCURRENT_SHARDS = 2
# Mixpanel allows 60 exports in a rolling hour for each project.
HOURLY_QUOTA = 60
LOOKBACK_DAYS = int(os.environ.get("TAP_MIXPANEL_STREAM_LOOKBACK_DAYS", "5"))
# For failures that last longer than the tap's own retries, which take about a minute.
RETRY_SECONDS = float(os.environ.get("MIXPANEL_RETRY_SECONDS", "120"))
RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=RETRY_SECONDS), "retry_exponential_backoff": True}

log = logging.getLogger(__name__)


def pipe(*options: str, **more: Any) -> None:
    """Run the pipeline, and write both programs' log lines to the task's log.

    Raises:
        AirflowException: A program exited with another code than 0.
    """
    result = run(log.info, options, **more)
    if not result.succeeded:
        raise AirflowException(str(result))


@task
def read_events(first_day: str, last_day: str, hourly_quota: int) -> None:
    """Load the events of these days, without a state."""
    settings = {"start_date": first_day, "end_date": last_day, "hourly_quota": str(hourly_quota)}
    pipe(settings=settings, part="events")


@task
def read_profiles() -> None:
    """Load all current profiles, including groups."""
    pipe(part="others")


@dag(schedule=None)
def mixpanel_tables() -> None:
    """Load one event and one profile, because concurrent runs would each try to create the tables."""

    @task
    def make_tables() -> None:
        first_day = f"{FIRST_DAY:%Y-%m-%d}"
        pipe("--test", settings={"start_date": first_day, "end_date": first_day})

    make_tables()


@dag(schedule=None, default_args=RETRIES)
def mixpanel_profiles() -> None:
    """Load all profiles."""
    read_profiles()


@dag(
    schedule=CronDataIntervalTimetable("@monthly", timezone="UTC"),
    start_date=FIRST_DAY,
    end_date=LAST_MONTH,
    catchup=True,
    max_active_runs=CONCURRENT_SHARDS,
    default_args=RETRIES,
)
def mixpanel_history() -> None:
    """Load the events of one month."""
    read_events(
        "{{ data_interval_start | ds }}",
        "{{ macros.ds_add(data_interval_end | ds, -1) }}",
        HOURLY_QUOTA // CONCURRENT_SHARDS,
    )


@dag(
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    # The run at 03:00 reads the previous day and the look-back before it, because events can arrive late.
    start_date=NIGHTLY_START.add(hours=3),
    catchup=True,
    max_active_runs=1,
    default_args=RETRIES,
)
def mixpanel_nightly() -> None:
    """Load the events of a day and of the look-back before it, and all profiles."""
    first_day = f"{{{{ macros.ds_add(data_interval_start | ds, -{LOOKBACK_DAYS}) }}}}"
    read_events(first_day, "{{ data_interval_start | ds }}", HOURLY_QUOTA)
    read_profiles()


mixpanel_tables()
mixpanel_profiles()
mixpanel_history()
mixpanel_nightly()
