"""Run singer-io's tap-mixpanel.

Its hosts are constants and its discovery requests property names, so both are patched.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

# Remove the folder of this script, because the script has the same name as the package.
sys.path.pop(0)

import requests
import tap_mixpanel
from tap_mixpanel.discover import discover

base_url, first, last, names, *stream = sys.argv[1:]
properties = json.loads(Path(names).read_text())


class _DiscoveryClient:
    """A client that provides the responses for discovery."""

    disable_engage_endpoint = False

    def request(self, path: str, **_: Any) -> dict[str, Any]:
        if path == "events/properties/top":
            return {name: {} for name in properties}
        return {"status": "ok", "results": {name: {"type": properties[name]} for name in properties}} if stream else {}


setattr(_DiscoveryClient, "__api_domain", "")
send = requests.Session.request


def send_to_emulator(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """Send a request to the emulator instead of Mixpanel."""
    for host in ("https://mixpanel.com", "https://data.mixpanel.com"):
        url = url.replace(host, base_url)
    return send(session, method, url, **options)


requests.Session.request = send_to_emulator
selected = "engage" if stream else "export"
catalog = discover(_DiscoveryClient(), "true").to_dict()
for entry_of in catalog["streams"]:
    if entry_of["tap_stream_id"] == selected:
        for entry in entry_of["metadata"]:
            entry["metadata"]["selected"] = True
config = {
    # The tap uses the secret as the complete credentials, so the colon before the empty password is required.
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
