"""A client of Ragline's HTTP API, as the command line uses it."""
