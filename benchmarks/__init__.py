"""Speed, memory and requests of this tap and of comparable programs, measured on this machine.

    python -m benchmarks                                all of it, into docs/ and the README
    python -m benchmarks --only comparison,pipelines    parts of it
    python -m benchmarks --quick                        small sizes, without other programs, to the screen

The pieces, in the order in which they are needed:

    data           the events, the same for everybody
    serving        the local Mixpanel, in a process of its own
    processes      a command run and measured, by `measured` in between
    environments   where the other programs are installed
    programs       the programs, and their command lines
    comparison     the cost of an event, in alternating runs
    pipelines      the tap with each target, and bulk loads
    fidelity       the output, compared with the source
    growth         larger and larger
    asking         requests and hours of quota
    stages         where the tap's own time goes
    circumstances  when, where and with what
    page, chart    the tables in docs/, and the pictures
    report         progress, on stderr
"""
