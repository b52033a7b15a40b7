"""From a request to a chunk that can be delivered, and the order in which chunks reach stdout. Knows no Singer.

window     one window of events: request, response, conversion, spool, retries, halves
workers    where bodies are converted: in worker processes, or in one thread at a time
prefetch   windows and pages are fetched ahead, and come out in order
checks     what is checked across finished windows before they are delivered
errors     why a stream cannot go on
"""
