"""From finished records to stdout or files: spooled, copied out in order, in whole lines.

    spool           records wait until their window or page is known to be whole
    stdout          whole lines, written by the main thread
    batches         batch files
    rejected_lines  the file of malformed lines

Knows neither HTTP nor records: blocks of whole lines come in, blocks of whole lines go out.
"""
