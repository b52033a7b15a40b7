"""Runs mixpanel-utils: `export_events` and `export_people` write one JSON array into a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

# This file's own folder comes first otherwise, and it has the same name.
sys.path.pop(0)

from mixpanel_utils import MixpanelUtils

base, first, last, _, *stream = sys.argv[1:]
utils = MixpanelUtils(
    "emulated-service-account-secret", service_account_username="tap.abc123.mp-service-account", project_id=2526451
)
utils.raw_api = utils.formatted_api = f"{base}/api"
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "output.json")
    if stream:
        utils.export_people(str(path))
    else:
        utils.export_events(str(path), {"from_date": first, "to_date": last}, add_gzip_header=True)
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
