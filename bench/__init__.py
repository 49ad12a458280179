"""`python -m bench`: what Ragline costs, against limits and peers measured in the same run (design §10)."""
