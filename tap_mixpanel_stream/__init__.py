"""A Singer tap that moves Mixpanel events and profiles, whole or not at all."""

import sys

# Before any import of what Windows lacks: fcntl, select.poll and the passing of file descriptors.
if sys.platform == "win32":
    sys.exit("tap-mixpanel-stream runs on Linux and macOS; on Windows, install and run it in WSL")
