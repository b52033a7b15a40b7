"""A minimal tap that uses only the Singer SDK, as a baseline for the benchmarks."""
