"""The composition root: the only place that constructs clients and puts the rooms together, a module a role."""
