"""Run Airbyte's source-mixpanel.

Its hosts are constants and its schema requests property names, so both are patched.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from airbyte_cdk.entrypoint import launch
from airbyte_cdk.sources.declarative.schema import DynamicSchemaLoader
from source_mixpanel import SourceMixpanel
from source_mixpanel.streams import Export, ExportSchema

url, first, last, names = sys.argv[1:]
properties = json.loads(Path(names).read_text())
Export.url_base = f"{url}/api/2.0/"
ExportSchema.read_records = lambda *_, **__: iter(properties)
# The other streams would send requests for their schemas.
DynamicSchemaLoader.get_json_schema = lambda _: {}
# Disable the pause of one minute after each request.
Export.reqs_per_hour_limit = 0
config = {
    "credentials": {
        "option_title": "Service Account",
        "username": "tap.abc123.mp-service-account",
        "secret": "emulated-service-account-secret",
        "project_id": 2526451,
    },
    "project_timezone": "UTC",
    "start_date": f"{first}T00:00:00Z",
    "end_date": f"{last}T00:00:00Z",
    "attribution_window": 0,
    "date_window_size": 10000,
    "region": "US",
}
catalog = {
    "streams": [
        {
            "stream": {
                "name": "export",
                "json_schema": {},
                "supported_sync_modes": ["full_refresh", "incremental"],
            },
            "sync_mode": "incremental",
            "destination_sync_mode": "append",
        }
    ]
}
with tempfile.TemporaryDirectory() as folder:
    for name, content in (("config", config), ("catalog", catalog)):
        Path(folder, name).write_text(json.dumps(content))
    arguments = ["read", "--config", f"{folder}/config", "--catalog", f"{folder}/catalog"]
    source = SourceMixpanel(
        SourceMixpanel.read_catalog(f"{folder}/catalog"), SourceMixpanel.read_config(f"{folder}/config"), None
    )
    launch(source, arguments)
