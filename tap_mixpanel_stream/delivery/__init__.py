"""How a chunk of data gets out whole: collected, kept until it is known to be whole, copied out in order.

Nothing here knows HTTP or what a record looks like: blocks of whole lines come in, blocks of whole lines go out.
"""
