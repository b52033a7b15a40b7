"""What else gets data out of Mixpanel: for each of them its pinned packages, and a driver that runs it here.

A driver runs in an environment that has the peer and nothing of this project, and is called with

    BASE FIRST LAST NAMES

the address of the local Mixpanel, the first and the last day, and a file with the names of all event properties as a
JSON list. It has the peer ask for these days in one request and write what it makes of them to stdout. It changes
nothing of the peer but the address, and what would ask for more than the export.
"""
