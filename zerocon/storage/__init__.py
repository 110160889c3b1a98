"""Files on disk: atomic writes, hashes of content, package versions."""
