"""Checks of the installation: packages, hardware, models, and an edit with a known answer."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from time import perf_counter
from typing import Literal

from zerocon.model.hub import cache_folder
from zerocon.settings import DEFAULT_CAPTIONER, DEFAULT_CLIP, DEFAULT_MODEL, FAST

PACKAGES = ("zerocon", "torch", "diffusers", "transformers", "accelerate", "pillow", "safetensors")
EXTRAS = {"matplotlib": "plots", "pillow_heif": "heic"}  # module: extra
GIGABYTE = 1e9

Status = Literal["ok", "note", "error"]


@dataclass(frozen=True)
class Check:
    """The result of one check: "note" is information only, "error" must be fixed."""

    name: str
    status: Status
    message: str
    advice: str = ""


def examine() -> Iterator[Check]:
    """Run all checks, one after the other; a check that raises is "error"."""
    for name, check in CHECKS.items():
        yield checked(name, check)


def checked(name: str, check: Callable[[str], Check]) -> Check:
    """The result of a check; "error" if it raises."""
    try:
        return check(name)
    except Exception as error:  # a broken installation can raise anything
        return Check(name, "error", " ".join(f"{type(error).__name__}: {error}".split()))


def packages(name: str) -> Check:
    """Versions of Python and of the packages that zerocon requires."""
    versions = [f"python {platform.python_version()}"]
    missing = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Check(name, "error", f"no {', '.join(missing)}", "pip install .")
    return Check(name, "ok", ", ".join(versions))


def device(name: str) -> Check:
    """The default device and precision."""
    import torch

    from zerocon.model.runtime import pick_device, pick_dtype

    best = pick_device(None)
    dtype = str(pick_dtype(None, best)).removeprefix("torch.")
    if best.type == "cuda":
        free, total = (part / GIGABYTE for part in torch.cuda.mem_get_info())
        card = torch.cuda.get_device_name()
        message = f"cuda: {card}, {free:.1f} of {total:.1f} GB free, {dtype}"
        return Check(name, "ok" if free > 8 else "note", message, "" if free > 8 else "--offload")
    if best.type == "mps":
        return Check(name, "ok", f"mps, {dtype}")
    message = f"cpu, {torch.get_num_threads()} threads, {dtype}"
    return Check(name, "note", message, "full-size models need a GPU; mini does not")


def memory(name: str) -> Check:
    """Free memory of the computer."""
    import psutil

    there = psutil.virtual_memory()
    free, total = there.available / GIGABYTE, there.total / GIGABYTE
    return Check(name, "ok" if free > 2 else "note", f"{free:.1f} of {total:.1f} GB free")


def cache(name: str) -> Check:
    """The directory of the Hub cache, and the free space on its disk."""
    folder = cache_folder()
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free / GIGABYTE
    return Check(name, "ok" if free > 8 else "note", f"{folder}, {free:.1f} GB free on its disk")


def models(name: str) -> Check:
    """The local models; those of the method should be among them."""
    from zerocon.model import hub

    there = {each.name for each in hub.scan()}
    wanted = (DEFAULT_MODEL, DEFAULT_CAPTIONER, DEFAULT_CLIP)
    missing = [each for each in wanted if each not in there]
    message = ", ".join(sorted({"mini (embedded)", *there}))
    advice = "; ".join(f"zerocon models pull {each}" for each in missing)
    return Check(name, "note" if missing else "ok", message, advice)


def extras(name: str) -> Check:
    """Optional packages."""
    missing = [extra for module, extra in EXTRAS.items() if find_spec(module) is None]
    there = [module for module in EXTRAS if find_spec(module) is not None]
    advice = f'pip install ".[{",".join(missing)}]"' if missing else ""
    return Check(name, "note" if missing else "ok", ", ".join(there) or "none", advice)


def edit(name: str) -> Check:
    """One edit of a drawn scene with the embedded model, evaluated against the known answer."""
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
    verdict = evaluate(task, edited.image, kept, classifiers.load())
    message = f'"{edited.caption}" -> "{edited.target_caption}" in {seconds:.1f} s'
    if verdict.success and verdict.preserved:
        return Check(name, "ok", f"{message}, judged right")
    reason = "; ".join(verdict.errors)
    return Check(name, "error", f"{message}, judged wrong: {reason}", "try --device cpu")


CHECKS: dict[str, Callable[[str], Check]] = {
    "packages": packages,
    "device": device,
    "memory": memory,
    "cache": cache,
    "models": models,
    "extras": extras,
    "edit": edit,
}
