"""How fast, how much memory, how many requests: measured on this machine, for this tap and for what else there is.

    python -m benchmarks                        all of it, into docs/ and the README
    python -m benchmarks --only races,growth    parts of it
    python -m benchmarks --quick                small sizes, without the peers, to the screen

The pieces, in the order in which they are needed:

    data           the events, the same for everybody
    serving        the local Mixpanel, in a process of its own
    processes      a command run and measured, by `measured` in between
    environments   where the peers are installed
    contenders     who runs, and how each is called
    races          alternating runs, and what an event costs
    losses         what came out, compared with what went in
    growth         larger and larger
    asking         requests and hours of quota
    stages         where the tap's own time goes
    circumstances  when, where and with what
    report, chart  the page and its pictures
"""
