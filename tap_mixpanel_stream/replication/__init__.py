"""Decide which days a run reads, from the state and the settings. Only dates: no requests and no records."""
