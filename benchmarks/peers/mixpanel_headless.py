"""Run mixpanel-headless. `stream_events` and `stream_profiles` yield dictionaries, written here as JSON lines."""

from __future__ import annotations

import json
import os
import sys

# Remove the folder of this script, because the script has the same name as the package.
sys.path.pop(0)

url, first, last, _, *stream = sys.argv[1:]
os.environ |= {
    "MP_API_BASE_URL": url,
    "MP_USERNAME": "tap.abc123.mp-service-account",
    "MP_SECRET": "emulated-service-account-secret",
    "MP_PROJECT_ID": "2526451",
    "MP_REGION": "us",
}

from mixpanel_headless import Workspace  # noqa: E402

workspace = Workspace()
rows = workspace.stream_profiles() if stream else workspace.stream_events(from_date=first, to_date=last)
for row in rows:
    sys.stdout.write(json.dumps(row, default=str) + "\n")
workspace.close()
