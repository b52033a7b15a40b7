"""The pitfalls in docs/targets.md occur, and the advice there helps."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.targets.loading import S3, ClickHouse, Csv, DuckDB, JsonLines, Postgres, Target, shown_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.targets import clickhouse
    from tests.targets.object_storage import ObjectStorage
    from tests.targets.postgresql import Server

DAY = dt.date(2024, 1, 1)
RANGE = {"start_date": str(DAY), "end_date": str(DAY)}
PLAIN = b'{"event":"A","properties":{"time":1704067200,"distinct_id":"u","$insert_id":"i1","a":[1]}}'
NUL = rb'{"event":"A","properties":{"time":1704067201,"distinct_id":"u","$insert_id":"i2","text":["a\u0000b"]}}'
HALF = rb'{"event":"A","properties":{"time":1704067202,"distinct_id":"u","$insert_id":"i3","text":"a\ud83d"}}'


def emulator(*lines: bytes, profiles: tuple[str, ...] = ()) -> Emulator:
    found = [{"$distinct_id": name, "$properties": {"a": 1}} for name in profiles]
    return Emulator(FixedProject({DAY: list(lines)}, found))


@pytest.fixture
def postgres_target(postgres: Server, tmp_path: Path) -> Postgres:
    return Postgres("postgres", tmp_path, postgres)


def test_a_nul_fails_postgres_without_strip_nul(postgres_target: Postgres) -> None:
    """A NUL fails the load into PostgreSQL; the page's `strip_nul` helps, the target's own setting does not."""
    own_remedy = postgres_target.settings() | {"sanitize_null_text_characters": True}
    with emulator(PLAIN, NUL) as mixpanel:
        for settings in (postgres_target.settings(), own_remedy):
            loaded = postgres_target.load(mixpanel.settings | RANGE, target_settings=settings)
            assert loaded.codes[1] != 0
            assert loaded.states == []
        loaded = postgres_target.load(mixpanel.settings | RANGE | postgres_target.tap_settings())
    assert loaded.codes == (0, 0), loaded.log
    assert len(list(postgres_target.rows("events", raw=False))) == 2


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", ["postgres", "duckdb"])
def test_a_surrogate_fails_databases_without_a_map(
    name: str, raw: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """An unpaired surrogate fails the load; with the page's stream map it succeeds."""
    target: Target = (
        Postgres("postgres", tmp_path, request.getfixturevalue("postgres"))
        if name == "postgres"
        else DuckDB("duckdb", tmp_path)
    )
    with emulator(PLAIN, HALF) as mixpanel:
        settings: dict[str, Any] = mixpanel.settings | RANGE | target.tap_settings() | {"raw": raw}
        loaded = target.load(settings)
        assert loaded.codes[1] != 0
        assert loaded.states == []
        mapped = shown_settings("unpaired surrogate: config.json")
        loaded = target.load(settings | mapped)
    assert loaded.codes == (0, 0), loaded.log
    texts = [json.loads(str(row["properties"])).get("text") for row in target.rows("events", raw=raw)]
    assert sorted(map(str, texts)) == ["None", "a?"]


def test_postgres_without_copy_needs_a_utc_session(postgres_target: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without COPY, event times are wrong unless the session is in UTC."""
    slow = postgres_target.settings() | {"use_copy": False}
    times = []
    with emulator(PLAIN) as mixpanel:
        for zone in ("America/New_York", "UTC"):
            loaded = postgres_target.load(mixpanel.settings | RANGE, None, slow, {"PGTZ": zone})
            assert loaded.codes == (0, 0), loaded.log
            times += [row["event_time"] for row in postgres_target.rows("events", raw=False)]

    assert "2023-12-31T19:00:00+00:00" in times
    assert "2024-01-01T00:00:00+00:00" in times


def test_deleted_profiles_are_removed_from_postgres(postgres_target: Postgres) -> None:
    """With the page's settings deleted profiles are removed, or marked as deleted."""
    settings = RANGE | shown_settings("postgres: config.json for deleted profiles")
    hard = postgres_target.settings() | {"hard_delete": True}
    for profiles in (("a", "b", "c"), ("b", "c", "d")):
        with emulator(PLAIN, profiles=profiles) as mixpanel:
            loaded = postgres_target.load(mixpanel.settings | settings, target_settings=hard)
        assert loaded.codes == (0, 0), loaded.log
        assert sorted(str(row["distinct_id"]) for row in postgres_target.rows("profiles", raw=False)) == list(profiles)
        assert len(list(postgres_target.rows("events", raw=False))) == 1
    with emulator(PLAIN, profiles=("d",)) as mixpanel:
        loaded = postgres_target.load(mixpanel.settings | settings)
    query = "SELECT distinct_id FROM mixpanel.profiles WHERE _sdc_deleted_at IS NULL"
    assert [row["distinct_id"] for row in postgres_target.ask(query)] == ["d"]
    assert len(list(postgres_target.rows("profiles", raw=False))) == 3


@pytest.mark.parametrize("target_class", [JsonLines, Csv])
def test_files_keep_surrogates_and_nuls(target_class: type[JsonLines | Csv], tmp_path: Path) -> None:
    """JSON lines and CSV files keep unpaired surrogates and NULs."""
    target = target_class(target_class.environment, tmp_path)
    with emulator(HALF, NUL) as mixpanel:
        assert target.load(mixpanel.settings | RANGE).codes == (0, 0)
    texts = [row["properties"] for row in target.rows("events", raw=False)]
    assert sorted(map(str, texts)) == [r'{"text": "a\ud83d"}', r'{"text": ["a\u0000b"]}']


def test_csv_without_flattening_is_not_json(tmp_path: Path) -> None:
    """Without the flattening on the page, `properties` in CSV is not JSON."""
    target = Csv("csv", tmp_path)
    plain = {name: value for name, value in target.settings().items() if not name.startswith("flattening")}
    with emulator(PLAIN) as mixpanel:
        assert target.load(mixpanel.settings | RANGE, target_settings=plain).codes == (0, 0)
    with pytest.raises(ValueError, match="property name enclosed in double quotes"):
        list(target.rows("events", raw=False))


def test_csv_without_a_time_in_its_name_is_overwritten(tmp_path: Path) -> None:
    """Without a time in its name a CSV file is overwritten by the next run."""
    target = Csv("csv", tmp_path)
    one_file = target.settings() | {"file_naming_scheme": "{stream_name}-.csv"}
    with emulator(PLAIN) as mixpanel:
        for _ in range(2):
            assert target.load(mixpanel.settings | RANGE, target_settings=one_file).codes == (0, 0)
    assert len(list(target.rows("events", raw=False))) == 1


def test_one_table_cannot_have_both_shapes(postgres_target: Postgres) -> None:
    """Raw records cannot be loaded into a table of normalized ones."""
    with emulator(PLAIN) as mixpanel:
        assert postgres_target.load(mixpanel.settings | RANGE).codes == (0, 0)
        assert postgres_target.load(mixpanel.settings | RANGE | {"raw": True}).codes[1] != 0


def test_replacing_merge_tree_keeps_one_raw_event(clickhouse: clickhouse.ClickHouse, tmp_path: Path) -> None:
    """Raw events have no key, so ReplacingMergeTree keeps only one."""
    target = ClickHouse("clickhouse", tmp_path, clickhouse)
    replacing = target.settings() | {"engine_type": "ReplacingMergeTree"}
    with emulator(PLAIN, NUL, HALF) as mixpanel:
        loaded = target.load(mixpanel.settings | RANGE | {"raw": True}, target_settings=replacing)
    assert loaded.codes == (0, 0), loaded.log
    assert len(list(target.rows("events", raw=True))) == 1


def test_parquet_in_s3_has_no_milliseconds(s3: ObjectStorage, tmp_path: Path) -> None:
    """Parquet files of target-s3 have `properties` as text and no milliseconds."""
    target = S3("s3", tmp_path, s3)
    parquet = target.settings() | {"format": {"format_type": "parquet"}}
    with emulator(PLAIN.replace(b"1704067200", b"1704067200250")) as mixpanel:
        settings = mixpanel.settings | RANGE | shown_settings("gcs: config.json")
        loaded = target.load(settings, target_settings=parquet)
    assert loaded.codes == (0, 0), loaded.log
    query = "SELECT event_time::VARCHAR AS time, properties FROM 's3://lake/mixpanel/events/**/*.parquet'"
    [row] = target.ask(query)
    assert row["time"].startswith("2024-01-01 00:00:00")
    assert ".25" not in row["time"]
    assert json.loads(row["properties"])["a"] == [1]
