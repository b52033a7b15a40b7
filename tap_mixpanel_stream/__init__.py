"""A Singer tap for Mixpanel events, profiles and reports that delivers only complete data."""

import sys

# Before any import that fails on Windows, such as fcntl.
if sys.platform == "win32":
    sys.exit("tap-mixpanel-stream runs on Linux and macOS; on Windows, install and run it in WSL")
