"""Benchmarks of speed, memory, requests and fidelity, for this tap and for comparable programs.

    python -m benchmarks                                all parts; updates docs/benchmarks.md and README.md
    python -m benchmarks --only comparison,pipelines    some parts
    python -m benchmarks --quick                        small sizes, without other programs, printed to the screen

Modules, in the order of their use:

    data              the events that all programs read
    emulator_process  the emulator, in a separate process
    processes         running a command and measuring it, with measure_process.py
    virtualenvs       virtual environments of the other programs
    programs          the programs and their command lines
    comparison        cost per event, in alternating runs
    pipelines         the tap with each target, and bulk loads
    fidelity          differences between input and output
    scaling           cost and memory by the number of events
    request_counts    number of requests and waiting time for the quota
    stages            CPU of each stage of the tap
    environment       date, machine and versions of a run
    page, chart       the tables and charts in docs/
    report            progress messages on stderr
"""
