"""Training of the embedded model ``mini``; start reading at ``mini.py``."""
