"""`python -m bench`: what Ragline costs, against limits and peers measured in the same run (design §10)."""

import os

os.environ.setdefault("LANCE_LOG", "error")  # the bare query asks as most would, which Lance warns of each time
