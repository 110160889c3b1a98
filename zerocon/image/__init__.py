"""Image files: reading, color, formats, metadata, resizing for a model, saving."""
