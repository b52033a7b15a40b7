"""`python -m tap_mixpanel_stream`."""

from .tap import main

main()
