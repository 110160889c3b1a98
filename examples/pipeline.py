"""Edit many images; the next ones are read and the last ones written in other threads.

    python examples/pipeline.py images/*.png --to "at night" --out night

One thread edits, since a model computes one edit at a time. At most a few images are in memory.
The first error ends the program; files written before it are complete. This is a starting point
for pipelines of your own; ``zerocon.batch.run`` also keeps a journal and can be resumed.
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
AHEAD = 4  # calls that are submitted before their results are needed


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[R]:
    """Yield ``function(item)`` for every item in order; a few calls run ahead."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("images", nargs="+", type=Path)
parser.add_argument("--to", required=True, help="target prompt")
parser.add_argument("--out", required=True, type=Path, help="output directory")
parser.add_argument("--model")
parser.add_argument("--steps", type=int)
args = parser.parse_args()

model = zerocon.load(args.model)  # before threads are started
settings = model.settings.overlay({"steps": args.steps} if args.steps else {})
args.out.mkdir(exist_ok=True)


def read(file):
    return check_output(args.out / file.name, inputs=args.images), zerocon.Photograph.read(file)


def edit(output, source):
    edited = zerocon.edit(source.image, model=model, to=args.to, settings=settings)
    return output, source, edited


def write(result):
    output, source, edited = result
    recipe = zerocon.Recipe.of(edited, model)
    source.save(edited.image, output, provenance=Provenance(recipe.to_json()))
    return output


with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(1) as writer:
    edits = (edit(*each) for each in map_ahead(readers, read, args.images))
    for output in map_ahead(writer, write, edits):
        print(output)
