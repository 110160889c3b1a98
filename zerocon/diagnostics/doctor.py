"""Whether zerocon works here: what there is on this machine, and an edit with a known answer."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Literal

from zerocon.settings import DEFAULT_CAPTIONER, DEFAULT_CLIP, DEFAULT_MODEL, FAST

PACKAGES = ("zerocon", "torch", "diffusers", "transformers", "accelerate", "pillow", "safetensors")
EXTRAS = {"scipy": "bench", "matplotlib": "plots", "pillow_heif": "heic"}  # module: our extra
GIGABYTE = 1e9

Status = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: "note" is worth knowing, "wrong" stands in the way."""

    name: str
    status: Status
    said: str
    advice: str = ""


def examine() -> Iterator[Check]:
    """Look at everything, one after the other; what cannot even be looked at is wrong."""
    for name, observer in LOOKS.items():
        try:
            yield observer(name)
        except Exception as error:  # whatever is broken here is what was asked for
            said = " ".join(f"{type(error).__name__}: {error}".split())
            yield Check(name, "wrong", said)


def packages(name: str) -> Check:
    """Versions of Python and of what zerocon is built on."""
    found = [f"python {platform.python_version()}"]
    missing = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Check(name, "wrong", f"no {', '.join(missing)}", "pip install zerocon")
    return Check(name, "ok", ", ".join(found))


def device(name: str) -> Check:
    """Where it would compute, and in what precision."""
    import torch

    from zerocon.model import pick_device, pick_dtype

    best = pick_device(None)
    dtype = str(pick_dtype(None, best)).removeprefix("torch.")
    if best.type == "cuda":
        free, total = (part / GIGABYTE for part in torch.cuda.mem_get_info())
        card = torch.cuda.get_device_name()
        said = f"cuda: {card}, {free:.1f} of {total:.1f} GB free, {dtype}"
        return Check(name, "ok" if free > 8 else "note", said, "" if free > 8 else "--offload")
    if best.type == "mps":
        return Check(name, "ok", f"mps, {dtype}")
    said = f"cpu, {torch.get_num_threads()} threads, {dtype}"
    return Check(name, "note", said, "full-size weights want a GPU; mini does not")


def memory(name: str) -> Check:
    """Of the computer, and of the disk that temporary files go to."""
    import psutil

    there = psutil.virtual_memory()
    free, total = there.available / GIGABYTE, there.total / GIGABYTE
    return Check(name, "ok" if free > 2 else "note", f"{free:.1f} of {total:.1f} GB free")


def cache(name: str) -> Check:
    """Where the Hub's files lie, and the space there."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free / GIGABYTE
    return Check(name, "ok" if free > 8 else "note", f"{folder}, {free:.1f} GB free on its disk")


def models(name: str) -> Check:
    """The models of the method, beside the embedded one."""
    from zerocon.model import hub

    there = {each.name for each in hub.scan()}
    wanted = (DEFAULT_MODEL, DEFAULT_CAPTIONER, DEFAULT_CLIP)
    missing = [each for each in wanted if each not in there]
    said = ", ".join(sorted({"mini (embedded)", *there}))
    advice = "; ".join(f"zerocon models pull {each}" for each in missing)
    return Check(name, "note" if missing else "ok", said, advice)


def extras(name: str) -> Check:
    """Packages that some options need."""
    missing = [extra for module, extra in EXTRAS.items() if find_spec(module) is None]
    there = [module for module in EXTRAS if find_spec(module) is not None]
    advice = f'pip install "zerocon[{",".join(missing)}]"' if missing else ""
    return Check(name, "note" if missing else "ok", ", ".join(there) or "none", advice)


def edit(name: str) -> Check:
    """One edit of a drawn scene with the embedded model, judged against what was asked."""
    from zerocon import api
    from zerocon.bench import classifiers
    from zerocon.bench.metrics import evaluate
    from zerocon.bench.tasks import choose

    task, model = choose("validation", 1)[0], api.load("mini")
    settings = model.settings.overlay(FAST)
    start = perf_counter()
    edited = api.edit(task.image, model=model, settings=settings, **task.prompt)
    seconds = perf_counter() - start
    kept = api.reconstruct(task.image, model)
    metrics = evaluate(task, edited.image, kept, classifiers.load())
    said = f'"{edited.caption}" -> "{edited.rewrite.target_caption}" in {seconds:.1f} s'
    if metrics.success and metrics.preserved:
        return Check(name, "ok", f"{said}, judged right")
    reason = "; ".join(metrics.errors)
    return Check(name, "wrong", f"{said}, judged wrong: {reason}", "try --device cpu")


LOOKS: dict[str, Callable[[str], Check]] = {
    "packages": packages,
    "device": device,
    "memory": memory,
    "cache": cache,
    "models": models,
    "extras": extras,
    "edit": edit,
}
