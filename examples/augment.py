"""Augment labeled training images with other styles, times and places.

    python examples/augment.py images augmented --labels labels --to "at night" watercolor

Labels are a directory of YOLO text files, or a COCO annotations file. An edit has the size of its
source, so boxes stay valid. A prompt that changes more than style, time and place, or a word of
COCO's categories, is refused for that image (exit status 1). The new directory gets ``images``, and
``labels`` or ``annotations.json``. Check the images before training on them: an edit can change
what it should keep.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import zerocon

KEPT = {"style", "time", "place"}  # kinds of change that keep objects and their positions

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("images", type=Path)
parser.add_argument("out", type=Path, help="a new directory")
parser.add_argument("--labels", required=True, type=Path)
parser.add_argument("--to", required=True, nargs="+")
parser.add_argument("--model")
parser.add_argument("--steps", type=int)
args = parser.parse_args()
if args.out.exists():
    parser.error(f"{args.out} exists already")

coco = {} if args.labels.is_dir() else json.loads(args.labels.read_text())
images = {each["file_name"]: each for each in coco.get("images", ())}
files = images if coco else [path.name for path in args.images.iterdir() if path.is_file()]
model, refused, copies = zerocon.load(args.model), 0, {"images": [], "annotations": []}
settings = model.settings.overlay({"steps": args.steps} if args.steps else {})


def check_changes(request):
    for change in request.rewrite.changes:
        words = f" {change.source} {change.target} "
        labeled = any(f" {each['name']} " in words for each in coco.get("categories", ()))
        if change.category not in KEPT or labeled:
            raise ValueError(f"{change} would invalidate the labels")


def copy_labels(file, name):
    label, number = args.labels / f"{Path(file).stem}.txt", len(copies["images"]) + 1
    if coco:
        copies["images"].append(images[file] | {"id": number, "file_name": name})
        boxes = [each for each in coco["annotations"] if each["image_id"] == images[file]["id"]]
        for count, each in enumerate(boxes, len(copies["annotations"]) + 1):
            copies["annotations"].append(each | {"id": count, "image_id": number})
    elif label.is_file():  # an image without one has no objects
        (args.out / "labels").mkdir(exist_ok=True)
        shutil.copy(label, args.out / "labels" / f"{Path(name).stem}.txt")


(args.out / "images").mkdir(parents=True)
for file, prompt in ((file, prompt) for file in sorted(files) for prompt in args.to):
    name = f"{Path(file).stem}-{prompt.replace(' ', '-')}{Path(file).suffix}"
    try:
        source = zerocon.Photograph.read(args.images / file)
        edit = zerocon.edit(
            source.image, to=prompt, model=model, settings=settings, on_request=check_changes
        )
        source.save(edit.image, args.out / "images" / name)
        copy_labels(file, name)
    except ValueError as error:
        print(f"{file}: {error}", file=sys.stderr)
        refused += 1
if coco:
    (args.out / "annotations.json").write_text(json.dumps(coco | copies))
sys.exit(bool(refused))
