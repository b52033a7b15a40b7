"""What else gets data out of Mixpanel: for each of them its pinned packages, and a driver that runs it here.

A driver runs in an environment that has the peer and nothing of this project, and is called with

    BASE FIRST LAST NAMES [profiles]

the address of the local Mixpanel, the first and the last day, and a file with the names of all event properties as a
JSON list. With `profiles` the peer reads all profiles, and the file has the types of their properties as a JSON object.
The driver has the peer read this in one request, or one request a page, and writes what the peer makes of it to stdout.
It changes nothing of the peer but the address, and answers what discovery would ask beyond that.
"""
