"""The embedded stack of `ragline dev`: real servers from wheels and one supervisor."""
