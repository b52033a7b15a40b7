"""Years of Mixpanel into Postgres, a run a month, and the nightly run that goes on from there.

    tables   ->  events, a partition a month  ->  nightly
             ->  profiles                     ->

Each run is `tap-mixpanel-stream | target-postgres` on whichever machine Dagster's launcher gives it. The settings come
from the environment, see docs/backfill.md.
"""

# No annotations from the future: Dagster looks at those of `context`.
import os
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
from handover import Shard, start_state
from pipeline import Ended, run

# The pool's limit in dagster.yaml is the same number.
SHARDS_AT_ONCE = 2
# Mixpanel's docs: 60 queries in a rolling hour, for a project.
HOURLY_QUOTA = 60
POOL = "mixpanel"


def month_after(month: str) -> str:
    """The month after a month, both as `2024-01`."""
    return f"{date.fromisoformat(f'{month}-28') + timedelta(days=4):%Y-%m}"


# A fixed range: later months are the nightly run's.
MONTHS = dg.MonthlyPartitionsDefinition(
    start_date=os.environ["MIXPANEL_FIRST_MONTH"],
    end_date=month_after(os.environ["MIXPANEL_LAST_MONTH"]),
    fmt="%Y-%m",
)
# The tap has tried again by then, up to `max_retries` times within a minute: this is for what lasts longer.
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=float(os.environ.get("MIXPANEL_RETRY_SECONDS", "120")), backoff=dg.Backoff.EXPONENTIAL
)


def pipe(context: dg.AssetExecutionContext, *options: str, **more: Any) -> Ended:
    """Run the pipeline with what both programs say in the run's log.

    Raises:
        dg.Failure: One of them did not end with 0.
    """

    def hear(line: str) -> None:
        level = next((each for each in ("error", "warning") if f"| {each.upper()} " in line), "info")
        getattr(context.log, level)(line)

    ended = run(hear, options, **more)
    if not ended.well:
        context.log.error(str(ended))
        complaints = dg.MetadataValue.text("\n".join(ended.complaints[-20:]))
        codes = {"tap_exit_code": ended.tap, "target_exit_code": ended.target}
        raise dg.Failure(str(ended), metadata={**codes, "complaints": complaints})
    return ended


def last_state(ended: Ended) -> dg.JsonMetadataValue:
    """The state that a run ended with.

    Raises:
        dg.Failure: There is none, so nothing says what is loaded.
    """
    if not ended.state:
        raise dg.Failure("the target handed no state on: nothing says what is loaded")
    return dg.MetadataValue.json(ended.state)


@dg.asset(pool=POOL)
def tables(context: dg.AssetExecutionContext) -> None:
    """The tables, made by one run alone: several that start at once would each try to make them.

    It loads one event and one profile. Wrong credentials, on either side, end the back-fill here.
    """
    first_day = f"{MONTHS.get_first_partition_key()}-01"
    pipe(context, "--test", settings={"start_date": first_day, "end_date": first_day})


@dg.asset(deps=[tables], partitions_def=MONTHS, retry_policy=RETRIES, pool=POOL)
def events(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """One month of events. No shard begins with another's state: each reads all of its days."""
    month = context.partition_time_window
    begun = datetime.now(UTC)
    settings = {
        "start_date": f"{month.start:%Y-%m-%d}",
        "end_date": f"{month.end - timedelta(days=1):%Y-%m-%d}",
        "hourly_quota": str(HOURLY_QUOTA // SHARDS_AT_ONCE),
    }
    ended = pipe(context, settings=settings, part="events")
    return dg.MaterializeResult(metadata={"begun": begun.isoformat(), "state": last_state(ended)})


@dg.asset(deps=[tables], retry_policy=RETRIES, pool=POOL)
def profiles(context: dg.AssetExecutionContext) -> None:
    """All profiles as they are now, those of groups too. They have no history, so they are no part of a shard."""
    pipe(context, part="others")


@dg.asset(deps=[events, profiles], retry_policy=RETRIES, pool=POOL)
def nightly(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """What is new: events from the last state on, less the look-back, and all profiles.

    Its state lies in Dagster, with its last success. The first time it is the one that the back-fill hands over.
    """
    before = context.instance.get_latest_materialization_event(context.asset_key)
    if before and before.asset_materialization:
        state: Any = before.asset_materialization.metadata["state"].value
    else:
        look_back = timedelta(days=int(os.environ.get("TAP_MIXPANEL_STREAM_LOOKBACK_DAYS", "5")))
        state = start_state(shards_loaded(context.instance), look_back)
    ended = pipe(context, settings={"start_date": f"{MONTHS.get_first_partition_key()}-01"}, state=state)
    return dg.MaterializeResult(metadata={"began_with": dg.MetadataValue.json(state), "state": last_state(ended)})


def shards_loaded(instance: dg.DagsterInstance) -> list[Shard]:
    """What the back-fill has loaded.

    Raises:
        dg.Failure: A month is missing. The nightly run would never read it.
    """
    shards = []
    for month in MONTHS.get_partition_keys():
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=events.key, asset_partitions=[month]), limit=1
        ).records
        if not found or not found[0].asset_materialization:
            raise dg.Failure(f"the events of {month} are not loaded: finish the back-fill first", allow_retries=False)
        told: Any = {name: each.value for name, each in found[0].asset_materialization.metadata.items()}
        shards.append(Shard(datetime.fromisoformat(told["begun"]), told["state"]))
    return shards


definitions = dg.Definitions(
    assets=[tables, events, profiles, nightly],
    schedules=[dg.ScheduleDefinition("every_night", target=nightly, cron_schedule="0 3 * * *")],
    executor=dg.in_process_executor,
)
