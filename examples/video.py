"""Edit a video frame by frame: PPM images come in on stdin and go out on stdout.

    ffmpeg -i in.mp4 -vf fps=12 -f image2pipe -c:v ppm -pix_fmt rgb24 - |
    python examples/video.py --to "at night" |
    ffmpeg -f image2pipe -framerate 12 -c:v ppm -i - -pix_fmt yuv420p out.mp4

Frames are edited independently, so the video flickers. All use the caption of the first frame, so
that the edit direction is the same. Pixels outside the edit's support stay those of the frame;
--mask gives one support for all frames.
"""

import argparse
import sys

from PIL import Image

import zerocon

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--to", required=True)
parser.add_argument("--caption", help="source caption of all frames [default: the first frame's]")
parser.add_argument("--mask", help="image, white where frames may change [default: found in each]")
parser.add_argument("--model")
parser.add_argument("--steps", type=int)
args = parser.parse_args()


def frames(stream):
    """The images in PPM as ffmpeg writes it: three lines each, then three bytes a pixel."""
    while stream.readline() == b"P6\n":
        width, height = map(int, stream.readline().split())
        stream.readline()  # the largest value, 255
        yield Image.frombytes("RGB", (width, height), stream.read(3 * width * height))


model, caption = zerocon.load(args.model), args.caption
settings = model.settings.overlay({"steps": args.steps} if args.steps else {})
mask = Image.open(args.mask) if args.mask else None
for frame in frames(sys.stdin.buffer):
    edited = zerocon.edit(
        frame, to=args.to, caption=caption, mask=mask, model=model, settings=settings
    )
    caption = edited.caption
    sys.stdout.buffer.write(b"P6\n%d %d\n255\n" % frame.size + edited.image.tobytes())
    sys.stdout.buffer.flush()
