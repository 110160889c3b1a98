"""Edit many pictures while the next ones are read and the last ones written.

    python examples/pipeline.py pictures/*.png --to "at night" --out night

One thread edits, as a model walks one edit at a time; reading, and encoding what is done, goes on
beside it, with no more than a few pictures in memory. The first error ends it; what is written by
then is whole.
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import zerocon
from zerocon.image.metadata import Provenance
from zerocon.image.saving import check_output

T, R = TypeVar("T"), TypeVar("R")


def ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What ``work`` makes of ``items``, in their order, a few of them begun before they are due."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > 4:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("images", nargs="+", type=Path)
parser.add_argument("--to", required=True)
parser.add_argument("--out", required=True, type=Path)
parser.add_argument("--model")
parser.add_argument("--steps", type=int)
asked = parser.parse_args()

model = zerocon.load(asked.model)  # before there are threads
settings = model.settings.overlay({"steps": asked.steps} if asked.steps else {})
asked.out.mkdir(exist_ok=True)


def read(file):
    return check_output(asked.out / file.name, source=file), zerocon.Photograph.read(file)


def edit(path, source):
    return path, source, zerocon.edit(source.image, model=model, to=asked.to, settings=settings)


def write(done):
    path, source, edited = done
    recipe = zerocon.Recipe.of(edited, model)
    source.save(edited.image, path, provenance=Provenance(recipe.to_json()))
    return path


with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(1) as writer:
    edits = (edit(*each) for each in ahead(readers, read, asked.images))
    for path in ahead(writer, write, edits):
        print(path)
