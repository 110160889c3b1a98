"""No name, docstring, comment or message in the source uses the withdrawn vocabulary."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from words import hits, name_hits

ROOT = Path(__file__).parent.parent
FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("zerocon", "cli")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def names(tree: ast.AST) -> Iterator[str]:
    """Identifiers that a module defines: not those of other packages that it uses."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.alias(asname=str(name)):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def texts(source: str) -> Iterator[str]:
    """Comments, docstrings and all other strings."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("file", FILES)
def test_source_uses_no_withdrawn_word(file: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    withdrawn = [hit for name in {*names(ast.parse(source))} for hit in name_hits(name, file)]
    withdrawn += [hit for text in texts(source) for hit in hits(text, file)]
    assert not withdrawn


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The picture is of another model: look again", 3),
        ("Nobody told the U-Net by chance.", 2),
        ("An image, its caption, and a lookup; made of pixels", 0),
        ("Regularisation of grey COLOURS", 3),
    ],
)
def test_withdrawn_words_are_found_in_texts(text: str, count: int) -> None:
    assert len(hits(text)) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [("told", 1), ("_said", 1), ("save_picture", 1), ("known_models", 0), ("NotFoundError", 0),
     ("WishList", 1), ("lookup", 0)],
)  # fmt: skip
def test_withdrawn_words_are_found_in_names(name: str, count: int) -> None:
    assert len(name_hits(name)) == count
