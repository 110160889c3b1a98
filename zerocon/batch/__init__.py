"""Many edits that lose nothing: what is asked, where it is noted, and who does it.

``jobs`` are made of pictures (``inputs``, ``manifest``) and wishes, entered in a ``journal``
beside the results, taken from there by any number of workers (``working``), each with a ``executor``
that makes the pictures, and put in place one by one (``placing``).
"""
