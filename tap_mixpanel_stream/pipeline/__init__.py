"""Fetch windows and pages into chunks that are ready to deliver, in order. Does not depend on Singer.

window     fetching one window of events: request, conversion, spool, retries, halves
workers    conversion in worker processes, or in one thread at a time
prefetch   fetching windows and pages ahead of delivery, with results in order
checks     checks across finished windows before they are delivered
errors     errors that end a stream
"""
