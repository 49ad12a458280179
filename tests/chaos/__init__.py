"""The chaos suite: real conversations over the real program, while its processes are killed and frozen.

`python -m tests.chaos --seed 7 --minutes 2 --streams 20` (or `make chaos ARGS="…"`). The seed decides the
conversations, the cuts of the readers and the strikes; when what lands is up to the machine.
"""
