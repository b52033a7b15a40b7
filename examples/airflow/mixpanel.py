"""Years of Mixpanel into Postgres, a run a month, and the nightly run that goes on from there.

    mixpanel_tables    once, by hand, before all others
    mixpanel_profiles  once, by hand: they have no history
    mixpanel_history   a run for each month from FIRST_DAY on, SHARDS_AT_ONCE at a time, until HANDED_OVER
    mixpanel_nightly   a run for each day from HANDED_OVER on, and all profiles

No run needs a Singer state: what it reads follows from its data interval. `pipeline.py` of examples/dagster lies beside
this file. The settings come from the environment, see docs/backfill.md.
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
HANDED_OVER = LAST_MONTH.add(months=1)
SHARDS_AT_ONCE = 2
# Mixpanel's docs: 60 queries in a rolling hour, for a project.
HOURLY_QUOTA = 60
# The tap has tried again by then, up to `max_retries` times within a minute: this is for what lasts longer.
RETRY_SECONDS = float(os.environ.get("MIXPANEL_RETRY_SECONDS", "120"))
RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=RETRY_SECONDS), "retry_exponential_backoff": True}

log = logging.getLogger(__name__)


def pipe(*options: str, **more: Any) -> None:
    """Run the pipeline with what both programs say in the task's log.

    Raises:
        AirflowException: One of them did not end with 0.
    """
    ended = run(log.info, options, **more)
    if not ended.well:
        raise AirflowException(str(ended))


@task
def read_events(first_day: str, last_day: str, hourly_quota: int) -> None:
    """Events of these days, whatever was read before."""
    settings = {"start_date": first_day, "end_date": last_day, "hourly_quota": str(hourly_quota)}
    pipe(settings=settings, part="events")


@task
def read_profiles() -> None:
    """All profiles as they are now, those of groups too."""
    pipe(part="others")


@dag(schedule=None)
def mixpanel_tables() -> None:
    """One event and one profile, alone: several runs at once would each try to make the tables."""

    @task
    def make_tables() -> None:
        first_day = f"{FIRST_DAY:%Y-%m-%d}"
        pipe("--test", settings={"start_date": first_day, "end_date": first_day})

    make_tables()


@dag(schedule=None, default_args=RETRIES)
def mixpanel_profiles() -> None:
    """All profiles."""
    read_profiles()


@dag(
    schedule=CronDataIntervalTimetable("@monthly", timezone="UTC"),
    start_date=FIRST_DAY,
    end_date=LAST_MONTH,
    catchup=True,
    max_active_runs=SHARDS_AT_ONCE,
    default_args=RETRIES,
)
def mixpanel_history() -> None:
    """The events of one month."""
    read_events(
        "{{ data_interval_start | ds }}",
        "{{ macros.ds_add(data_interval_end | ds, -1) }}",
        HOURLY_QUOTA // SHARDS_AT_ONCE,
    )


@dag(
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    # At three in the night the day before is read, with the five before it, since events can come late.
    start_date=HANDED_OVER.add(hours=3),
    catchup=True,
    max_active_runs=1,
    default_args=RETRIES,
)
def mixpanel_nightly() -> None:
    """The events of a day and of the look-back before it, and all profiles."""
    read_events("{{ macros.ds_add(data_interval_start | ds, -5) }}", "{{ data_interval_start | ds }}", HOURLY_QUOTA)
    read_profiles()


mixpanel_tables()
mixpanel_profiles()
mixpanel_history()
mixpanel_nightly()
