"""The page "What to type" is what the code does."""

from __future__ import annotations

from prompt_page import PAGE, page


def test_the_page_is_generated_from_the_rules_and_the_cases() -> None:
    text = page()
    assert PAGE.read_text(encoding="utf-8") == text
    assert "not refused" not in text
