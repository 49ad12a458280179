"""Ragline: the event-driven backend for products that chat over their own documents."""

__version__ = "0.1.0"
