"""docs/images.md is what tests/image_page.py measures."""

from __future__ import annotations

import image_page
import pytest


def test_the_page_is_what_the_code_does() -> None:
    pytest.importorskip("pillow_heif")
    text = image_page.page()
    assert "lost" not in text
    assert image_page.PAGE.read_text(encoding="utf-8") == text
