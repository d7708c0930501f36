"""The chaos harness: SIGKILL at every call that any process makes, and the promises checked afterwards.

`python -m tests.chaos` runs it; `points` finds and kills, `crew` starts and revives, `feed` writes posts, `market`
keeps a market that is always about to open or close, `promises` checks, `run` puts them together, `matrix` prints.
"""
