"""Runs singer-io's tap-mixpanel: its hosts are constants, and its discovery asks for the names of properties."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

# This file's own folder comes first otherwise, and it has the same name.
sys.path.pop(0)

import tap_mixpanel
from tap_mixpanel.client import MixpanelClient
from tap_mixpanel.discover import discover
from tap_mixpanel.streams import STREAMS

base, first, last, names = sys.argv[1:]
properties = json.loads(Path(names).read_text())


class _NoRequests:
    """Answers discovery's questions."""

    disable_engage_endpoint = True

    def request(self, path: str, **_: Any) -> dict[str, Any]:
        return {name: {} for name in properties} if path == "events/properties/top" else {}


setattr(_NoRequests, "__api_domain", "")
# It would ask whether it may, by a method that the local Mixpanel does not have.
MixpanelClient.check_access = lambda _: True
STREAMS["export"].url = f"{base}/api/2.0"
catalog = discover(_NoRequests(), "true").to_dict()
for stream in catalog["streams"]:
    if stream["tap_stream_id"] == "export":
        for entry in stream["metadata"]:
            entry["metadata"]["selected"] = True
config = {
    # Without the colon it would not add itself, its password reads as a name.
    "api_secret": "emulated-project-secret:",
    "start_date": f"{first}T00:00:00Z",
    "end_date": f"{last}T23:59:59Z",
    "date_window_size": "10000",
    "attribution_window": "0",
    "project_timezone": "UTC",
    "user_agent": "benchmark",
    "select_properties_by_default": "true",
}
with tempfile.TemporaryDirectory() as folder:
    for name, content in (("config", config), ("catalog", catalog)):
        Path(folder, name).write_text(json.dumps(content))
    sys.argv[1:] = ["--config", f"{folder}/config", "--catalog", f"{folder}/catalog"]
    tap_mixpanel.main()
