"""Data of ``zerocon.prompt``: word lists (``words/``), sentence templates, and ``grammar.txt``."""
