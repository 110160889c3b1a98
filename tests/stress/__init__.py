"""Fault injection and soak test of ``zerocon batch``: opt-in, ``pytest -m stress``."""
