"""Files on disk: atomic writes, bounded reads, hashes, package versions; text made safe to show."""
