"""`ragline doctor`: what is wrong with an installation, and what to do. A file a group of checks."""
