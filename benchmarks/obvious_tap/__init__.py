"""The tap one would write first: a baseline, made of the SDK's own parts and nothing else."""
