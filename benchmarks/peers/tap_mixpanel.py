"""Runs singer-io's tap-mixpanel: its hosts are constants, and its discovery asks for the names of properties."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

# This file's own folder comes first otherwise, and it has the same name.
sys.path.pop(0)

import requests
import tap_mixpanel
from tap_mixpanel.discover import discover

base, first, last, names, *stream = sys.argv[1:]
properties = json.loads(Path(names).read_text())


class _NoRequests:
    """Answers discovery's questions."""

    disable_engage_endpoint = False

    def request(self, path: str, **_: Any) -> dict[str, Any]:
        if path == "events/properties/top":
            return {name: {} for name in properties}
        return {"status": "ok", "results": {name: {"type": properties[name]} for name in properties}} if stream else {}


setattr(_NoRequests, "__api_domain", "")
ask = requests.Session.request


def ask_here(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """Ask the local Mixpanel."""
    for host in ("https://mixpanel.com", "https://data.mixpanel.com"):
        url = url.replace(host, base)
    return ask(session, method, url, **options)


requests.Session.request = ask_here
wanted = "engage" if stream else "export"
catalog = discover(_NoRequests(), "true").to_dict()
for entry_of in catalog["streams"]:
    if entry_of["tap_stream_id"] == wanted:
        for entry in entry_of["metadata"]:
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
