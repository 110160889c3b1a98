"""One file per command; ``zerocon.cli`` imports each when it is called."""
