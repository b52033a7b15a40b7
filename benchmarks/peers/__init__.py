"""Other programs that read data from Mixpanel: pinned requirements and a driver script for each.

A driver runs in the virtual environment of its program, which does not contain this project. Its command line is

    URL FIRST LAST NAMES [profiles]

with the URL of the emulator, the first and the last day, and a file with the names of all event properties as a JSON
list. With `profiles`, the program reads all profiles, and the file is a JSON object with the type of each profile
property. The driver reads everything in one request, or one request per page, and writes the program's output to
stdout. It changes only the URL of the program, and provides the responses to requests of the program's discovery.
"""
