"""One window or page, from request to spool, and the order in which finished ones reach stdout."""
