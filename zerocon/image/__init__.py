"""Image files: reading, color, formats, metadata, resizing for a model, saving."""

from typing import Literal, TypeAlias

METADATA_LEVELS = ("full", "minimal", "none")  # what a result contains, see metadata.Provenance.at
SizeRule: TypeAlias = Literal["area", "longest"]  # what the size is of, see transforms.WorkingSize
MEGAPIXELS = 100.0  # limit of an image file, unless another one is given
MOST_MEGAPIXELS = 10_000.0  # that may be given
