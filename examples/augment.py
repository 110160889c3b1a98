"""More training pictures for the labels there are: other styles, times and places.

    python examples/augment.py pictures augmented --labels labels --to "at night" watercolor

Labels are a folder of YOLO's text files, or a COCO annotations file. An edit has its source's size,
so boxes hold. A wish that changes more than style, time and place, or what COCO's categories name,
is refused for that picture (exit code 1). The new folder gets ``images``, and ``labels`` or
``annotations.json``. Look at it before you train on it: edits may bend what they should keep.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import zerocon

KEPT = {"style", "time", "place"}  # kinds of change that leave things what and where they are

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("images", type=Path)
parser.add_argument("out", type=Path, help="a new folder")
parser.add_argument("--labels", required=True, type=Path)
parser.add_argument("--to", required=True, nargs="+")
parser.add_argument("--model")
parser.add_argument("--steps", type=int)
asked = parser.parse_args()
if asked.out.exists():
    parser.error(f"{asked.out} exists already")

coco = {} if asked.labels.is_dir() else json.loads(asked.labels.read_text())
images = {each["file_name"]: each for each in coco.get("images", ())}
files = images if coco else [path.name for path in asked.images.iterdir() if path.is_file()]
model, refused, copies = zerocon.load(asked.model), 0, {"images": [], "annotations": []}
settings = model.settings.overlay({"steps": asked.steps} if asked.steps else {})


def guard(understood):
    for change in understood.rewrite.changes:
        words = f" {change.source} {change.target} "
        named = any(f" {each['name']} " in words for each in coco.get("categories", ()))
        if change.category not in KEPT or named:
            raise ValueError(f"{change} is not what the labels say")


def copy_labels(file, name):
    label, number = asked.labels / f"{Path(file).stem}.txt", len(copies["images"]) + 1
    if coco:
        copies["images"].append(images[file] | {"id": number, "file_name": name})
        own = [each for each in coco["annotations"] if each["image_id"] == images[file]["id"]]
        for count, each in enumerate(own, len(copies["annotations"]) + 1):
            copies["annotations"].append(each | {"id": count, "image_id": number})
    elif label.is_file():  # a picture without one shows nothing
        (asked.out / "labels").mkdir(exist_ok=True)
        shutil.copy(label, asked.out / "labels" / f"{Path(name).stem}.txt")


(asked.out / "images").mkdir(parents=True)
for file, prompt in ((file, prompt) for file in sorted(files) for prompt in asked.to):
    name = f"{Path(file).stem}-{prompt.replace(' ', '-')}{Path(file).suffix}"
    try:
        source = zerocon.Photograph.read(asked.images / file)
        edit = zerocon.edit(
            source.image, to=prompt, model=model, settings=settings, on_request=guard
        )
        source.save(edit.image, asked.out / "images" / name)
        copy_labels(file, name)
    except ValueError as error:
        print(f"{file}: {error}", file=sys.stderr)
        refused += 1
if coco:
    (asked.out / "annotations.json").write_text(json.dumps(coco | copies))
sys.exit(bool(refused))
