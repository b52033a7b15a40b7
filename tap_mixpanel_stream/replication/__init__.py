"""Which days a run reads: windows of days, and the state that says what earlier runs delivered. Dates only."""
