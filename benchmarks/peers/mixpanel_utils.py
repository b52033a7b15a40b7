"""Run mixpanel-utils. `export_events` and `export_people` write a JSON array to a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

# Remove the folder of this script, because the script has the same name as the package.
sys.path.pop(0)

from mixpanel_utils import MixpanelUtils

url, first, last, _, *stream = sys.argv[1:]
utils = MixpanelUtils(
    "emulated-service-account-secret", service_account_username="tap.abc123.mp-service-account", project_id=2526451
)
utils.raw_api = utils.formatted_api = f"{url}/api"
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "output.json")
    if stream:
        utils.export_people(str(path))
    else:
        utils.export_events(str(path), {"from_date": first, "to_date": last}, add_gzip_header=True)
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
