"""The example of a new column in CONTRIBUTING.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONVERT = """
from tap_mixpanel_stream.records import BARE, EventSchema
events = EventSchema(raw=False)
line = b'{"event":"A","properties":{"time":0,"distinct_id":"u","$insert_id":"i","$city":"Bern","a":1}}\\n'
print(events.columns, events.converter(envelope=BARE, on_bad_line=print).convert(line).decode())
"""


def test_the_example_of_a_new_column_works(tmp_path: Path) -> None:
    """Each hunk of the example is found once in the file, and the changed package writes the column."""
    shutil.copytree(ROOT / "tap_mixpanel_stream", tmp_path / "tap_mixpanel_stream")
    [diff] = re.findall(r"^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    header, *hunks = re.split(r"^@@.*@@\n", diff, flags=re.MULTILINE)
    path = tmp_path / header.split("+++ b/")[1].strip()
    code = path.read_text()
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in (" ", mark)) for mark in "-+")
        assert code.count(before) == 1
        code = code.replace(before, after)
    path.write_text(code)
    done = subprocess.run([sys.executable, "-c", CONVERT], cwd=tmp_path, capture_output=True, check=True, text=True)
    columns, record = done.stdout.strip().split(") ")
    assert "city" in columns
    assert json.loads(record) == {
        "event_name": "A",
        "event_time": "1970-01-01T00:00:00+00:00",
        "distinct_id": "u",
        "insert_id": "i",
        "city": "Bern",
        "properties": {"a": 1},
    }
