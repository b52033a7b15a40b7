"""Deliver records to stdout or files, in order and in whole lines.

    spool           storage for records until their window or page is complete
    stdout          stdout, written by the main thread only
    record_writer   single records and messages, for the SDK's features
    batches         batch files
    rejected_lines  the file of malformed lines

This package handles blocks of whole lines. It does not depend on HTTP or on the format of records.
"""
