"""Which days a run reads: date ranges and windows, and the state of what earlier runs delivered. Dates only."""
