"""Image files: reading, color, formats, metadata, resizing for a model, saving."""

METADATA_LEVELS = ("full", "minimal", "none")  # what a result contains, see metadata.Provenance.at
