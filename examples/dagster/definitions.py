"""Load years of Mixpanel into PostgreSQL, with one run for each month, followed by a nightly run.

    tables   ->  events, monthly partitions  ->  nightly
             ->  profiles                    ->

Each run is `tap-mixpanel-stream | target-postgres` on the machine that Dagster's launcher chooses. The settings are in
the environment, see docs/backfill.md.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.
import os
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
from handover import Shard, start_state
from pipeline import PipelineResult, run

# The pool's limit in dagster.yaml is the same number.
CONCURRENT_SHARDS = 2
# Mixpanel allows 60 exports in a rolling hour for each project.
HOURLY_QUOTA = 60
POOL = "mixpanel"


def month_after(month: str) -> str:
    """Return the month after a month, both like `2024-01`."""
    return f"{date.fromisoformat(f'{month}-28') + timedelta(days=4):%Y-%m}"


# A fixed range: the nightly run loads later months.
MONTHS = dg.MonthlyPartitionsDefinition(
    start_date=os.environ["MIXPANEL_FIRST_MONTH"],
    end_date=month_after(os.environ["MIXPANEL_LAST_MONTH"]),
    fmt="%Y-%m",
)
# For failures that last longer than the tap's own retries, which take about a minute.
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=float(os.environ.get("MIXPANEL_RETRY_SECONDS", "120")), backoff=dg.Backoff.EXPONENTIAL
)


def pipe(context: dg.AssetExecutionContext, *options: str, **more: Any) -> PipelineResult:
    """Run the pipeline, and write both programs' log lines to the run's log.

    Raises:
        dg.Failure: A program exited with another code than 0.
    """

    def on_line(line: str) -> None:
        level = next((each for each in ("error", "warning") if f"| {each.upper()} " in line), "info")
        getattr(context.log, level)(line)

    result = run(on_line, options, **more)
    if not result.succeeded:
        context.log.error(str(result))
        errors = dg.MetadataValue.text("\n".join(result.errors[-20:]))
        codes = {"tap_exit_code": result.tap, "target_exit_code": result.target}
        raise dg.Failure(str(result), metadata={**codes, "errors": errors})
    return result


def last_state(result: PipelineResult) -> dg.JsonMetadataValue:
    """Return the final state of a run.

    Raises:
        dg.Failure: There is no state, so it is unknown what is loaded.
    """
    if not result.state:
        raise dg.Failure("the target emitted no state, so it is unknown what is loaded")
    return dg.MetadataValue.json(result.state)


@dg.asset(pool=POOL)
def tables(context: dg.AssetExecutionContext) -> None:
    """Create the tables in one run, because concurrent runs would each try to create them.

    It loads one event and one profile. Wrong credentials for Mixpanel or PostgreSQL end the back-fill here.
    """
    first_day = f"{MONTHS.get_first_partition_key()}-01"
    pipe(context, "--test", settings={"start_date": first_day, "end_date": first_day})


@dg.asset(deps=[tables], partitions_def=MONTHS, retry_policy=RETRIES, pool=POOL)
def events(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Load one month of events. Each shard reads all of its days, without a state."""
    month = context.partition_time_window
    begun = datetime.now(UTC)
    settings = {
        "start_date": f"{month.start:%Y-%m-%d}",
        "end_date": f"{month.end - timedelta(days=1):%Y-%m-%d}",
        "hourly_quota": str(HOURLY_QUOTA // CONCURRENT_SHARDS),
    }
    result = pipe(context, settings=settings, part="events")
    return dg.MaterializeResult(metadata={"begun": begun.isoformat(), "state": last_state(result)})


@dg.asset(deps=[tables], retry_policy=RETRIES, pool=POOL)
def profiles(context: dg.AssetExecutionContext) -> None:
    """Load all current profiles, including groups. Profiles have no history, so they are not in a shard."""
    pipe(context, part="others")


@dg.asset(deps=[events, profiles], retry_policy=RETRIES, pool=POOL)
def nightly(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Load new events from the last state on, with the look-back, and all profiles.

    The state is stored in Dagster with the last successful run. The first run starts from the back-fill's state.
    """
    before = context.instance.get_latest_materialization_event(context.asset_key)
    if before and before.asset_materialization:
        state: Any = before.asset_materialization.metadata["state"].value
    else:
        look_back = timedelta(days=int(os.environ.get("TAP_MIXPANEL_STREAM_LOOKBACK_DAYS", "5")))
        state = start_state(loaded_shards(context.instance), look_back)
    result = pipe(context, settings={"start_date": f"{MONTHS.get_first_partition_key()}-01"}, state=state)
    return dg.MaterializeResult(metadata={"began_with": dg.MetadataValue.json(state), "state": last_state(result)})


def loaded_shards(instance: dg.DagsterInstance) -> list[Shard]:
    """Return the shards that the back-fill has loaded.

    Raises:
        dg.Failure: A month is missing, which the nightly run would never read.
    """
    shards = []
    for month in MONTHS.get_partition_keys():
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=events.key, asset_partitions=[month]), limit=1
        ).records
        if not found or not found[0].asset_materialization:
            raise dg.Failure(f"the events of {month} are not loaded: finish the back-fill first", allow_retries=False)
        metadata: Any = {name: each.value for name, each in found[0].asset_materialization.metadata.items()}
        shards.append(Shard(datetime.fromisoformat(metadata["begun"]), metadata["state"]))
    return shards


definitions = dg.Definitions(
    assets=[tables, events, profiles, nightly],
    schedules=[dg.ScheduleDefinition("every_night", target=nightly, cron_schedule="0 3 * * *")],
    executor=dg.in_process_executor,
)
