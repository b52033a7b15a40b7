"""Delivery: record lines are spooled until their window is known to be whole, then written to stdout or batch files.

This package knows neither HTTP nor records: blocks of whole lines come in, blocks of whole lines go out.
"""
