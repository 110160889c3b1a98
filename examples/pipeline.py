"""Edit many images; the next ones are read and the last ones written in other threads.

    python examples/pipeline.py images/*.png --to "at night" --out night

One thread edits, since a model computes one edit at a time. At most a few images are in memory.
Results of an earlier run are replaced, inputs never; images that the prompt does not change are
copied. The first error ends the program with one line; files written before it are complete. This
is a starting point
for pipelines of your own; ``zerocon.batch.run`` also keeps a journal and can be resumed.
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import zerocon
from zerocon.errors import NothingToChangeError, ZeroconError
from zerocon.image.metadata import Provenance
from zerocon.image.saving import check_output
from zerocon.image.writing import copy_image

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


def read(file):
    output = check_output(args.out / file.name, overwrite=True, inputs=args.images)
    return file, output, zerocon.Photograph.read(file)


def edit(file, output, source):
    try:
        edited = zerocon.edit(source.image, model=model, to=args.to, settings=settings)
    except NothingToChangeError:  # it is so already
        edited = None
    return file, output, source, edited


def write(result):
    file, output, source, edited = result
    if edited is None:
        copy_image(file, output, overwrite=True, inputs=args.images)
        return output
    provenance = Provenance(zerocon.Recipe.of(edited, model).to_json())
    source.save(edited.image, output, overwrite=True, provenance=provenance)
    return output


try:
    model = zerocon.load(args.model)  # before threads are started
    settings = model.settings.overlay({"steps": args.steps} if args.steps else {})
    args.out.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(1) as writer:
        edits = (edit(*each) for each in map_ahead(readers, read, args.images))
        for output in map_ahead(writer, write, edits):
            print(output)
except ZeroconError as error:
    parser.exit(error.code, f"{parser.prog}: {error}\n")
