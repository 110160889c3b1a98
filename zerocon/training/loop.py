"""The loop in which every network is trained: averaged, logged, and able to go on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from zerocon.storage.atomic import writing

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.training.workspace import Workspace

Network = TypeVar("Network", bound=nn.Module)
Rng = np.random.Generator
Losses = Callable[[Rng], dict[str, Tensor]]  # the terms of one batch's loss, weighted
Preview = Callable[[nn.Module], tuple["Image | None", dict[str, float]]]  # of the averaged network

LINE = 15.0  # seconds between two lines of progress


@dataclass(frozen=True)
class TrainingRun:
    """How a network is trained: what the settings of all such stages have in common."""

    steps: int = 10_000  # over all sittings
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200  # steps at the start of each sitting: a resumed Adam needs them too
    decay: float = 0.3  # share at the end over which lr falls to zero; 0 if more will follow
    ema: float = 0.999  # of the averaged weights, which are the result
    every: float = 4.0  # minutes between sample sheets, and between checkpoints
    seed: int = 0

    def rate(self, step: int, first: int, spent: float) -> float:
        """Learning rate of a step in a sitting that began at ``first`` and is ``spent`` (0..1)."""
        left = 1 - max(step / self.steps, spent)
        rise = (step - first + 1) / self.warmup if self.warmup else 1.0
        fall = left / self.decay if self.decay else 1.0
        return self.lr * max(0.0, min(1.0, rise, fall))


def train(
    work: Workspace,
    stage: str,
    course: TrainingRun,
    network: Network,
    losses: Losses,
    preview: Preview,
) -> tuple[Network, int]:
    """Train ``network`` until its steps or the sitting are over; its average, and the step.

    Every step draws from a generator of its own number, so a run that was cut off and resumed sees
    the batches that it would have seen. Parameters that need no gradient stay as they were
    averaged.
    """
    average = deepcopy(network).eval().requires_grad_(False)
    learned = [p for p in network.parameters() if p.requires_grad]
    fused = {"fused": True} if work.device != "mps" else {}
    adam = torch.optim.AdamW(learned, lr=course.lr, weight_decay=0.01, betas=(0.9, 0.99), **fused)
    step = first = _resume(work, stage, network, average, adam)
    network.train()
    shown = told = time.monotonic()
    told_at, sums = step, dict[str, Tensor]()
    while step < course.steps and work.spent() < 1:
        rate = course.rate(step, first, work.spent())
        for group in adam.param_groups:
            group["lr"] = rate
        torch.manual_seed(hash((course.seed, step)))
        terms = losses(np.random.default_rng([course.seed, step]))
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if step == first:
            _require_gradients(stage, network)
        nn.utils.clip_grad_norm_(learned, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        step += 1
        _blend(average, network, min(course.ema, (1 + step) / (10 + step)))
        sums = {name: sums.get(name, 0) + term.detach() for name, term in terms.items()}
        now = time.monotonic()
        if now - told > LINE or step == course.steps:
            means = {name: float(total) / (step - told_at) for name, total in sums.items()}
            speed = (step - told_at) * course.batch / (now - told)
            work.log(stage, step=step, lr=rate, speed=round(speed, 1), **means)
            work.say(_line(stage, step, course.steps, means, rate, speed))
            told, told_at, sums = time.monotonic(), step, {}
        if now - shown > 60 * course.every:
            _save(work, stage, course, step, network, average, adam)
            _show(work, stage, step, average, preview)
            shown = told = time.monotonic()
            told_at, sums = step, {}
    if step > first:
        _save(work, stage, course, step, network, average, adam)
        _show(work, stage, step, average, preview)
    return average, step


def restore(work: Workspace, stage: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and averaged weights of a trained stage; ``ValueError`` if there are none."""
    path = work.folder / stage / "checkpoint.pt"
    if not path.exists():
        raise ValueError(f"{work.folder} has no trained {stage}; run --stage {stage} first")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    return saved["settings"], saved["average"]


def _resume(
    work: Workspace, stage: str, network: nn.Module, average: nn.Module, adam: torch.optim.Optimizer
) -> int:
    path = work.folder / stage / "checkpoint.pt"
    if not path.exists():
        return 0
    saved = torch.load(path, map_location=work.device, weights_only=True)
    try:
        network.load_state_dict(saved["network"])
    except RuntimeError as error:
        was = ",".join(f"{name}={value}" for name, value in saved["settings"].items())
        raise ValueError(f"{path} is of another network, made with {was}") from error
    average.load_state_dict(saved["average"])
    for ours, averaged in zip(network.parameters(), average.parameters(), strict=True):
        if not ours.requires_grad:
            ours.data.copy_(averaged)
    learned = sum(len(group["params"]) for group in adam.param_groups)
    if learned == sum(len(group["params"]) for group in saved["optimizer"]["param_groups"]):
        adam.load_state_dict(saved["optimizer"])
    return int(saved["step"])


def _save(
    work: Workspace,
    stage: str,
    course: TrainingRun,
    step: int,
    network: nn.Module,
    average: nn.Module,
    adam: torch.optim.Optimizer,
) -> None:
    saved = {
        "settings": asdict(course),
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": adam.state_dict(),
    }
    with writing(work.place(stage) / "checkpoint.pt", overwrite=True) as file:
        torch.save(saved, file)


def _require_gradients(stage: str, network: nn.Module) -> None:
    """Stop a run in which part of the network learns nothing, as after a compiler's mistake."""
    dead = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    if dead:
        raise RuntimeError(
            f"{stage}: no gradient reaches {len(dead)} parameters, such as {dead[0]}"
        )


def _show(work: Workspace, stage: str, step: int, average: nn.Module, preview: Preview) -> None:
    with torch.no_grad():
        image, numbers = preview(average)
    if image is not None:
        image.save(work.place(f"{stage}/samples") / f"{step:07d}.png")
    work.log(stage, step=step, **numbers)
    work.say(f"{stage}: " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))


@torch.no_grad()
def _blend(average: nn.Module, network: nn.Module, keep: float) -> None:
    mine: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(mine, theirs, 1 - keep)
    for kept, seen in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(seen)


def _line(
    stage: str, step: int, steps: int, means: dict[str, float], rate: float, speed: float
) -> str:
    terms = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    return f"{stage}: step {step} of {steps}  {terms}  lr {rate:.1e}  {speed:.1f} samples/s"
