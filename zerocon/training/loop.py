"""The training loop of all networks: averaged weights, log, checkpoints, resumption."""

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
Losses = Callable[[Rng], dict[str, Tensor]]  # weighted terms of one batch's loss
Preview = Callable[[nn.Module], tuple["Image | None", dict[str, float]]]  # of the averaged network

INTERVAL = 15.0  # seconds between two lines of progress
# fields of stages as checkpoints of version 0.1 name them
RENAMED = {"sight": "image_width", "sight_layers": "image_layers", "judged": "evaluated"}


@dataclass(frozen=True)
class TrainingRun:
    """The settings that all stages that train a network share."""

    steps: int = 10_000  # over all runs
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200  # steps at the start of each run: a resumed Adam needs them too
    decay: float = 0.3  # share at the end over which lr falls to zero; 0 if another run follows
    ema: float = 0.999  # of the averaged weights, which are the result
    every: float = 4.0  # minutes between sample sheets, and between checkpoints
    seed: int = 0

    def rate(self, step: int, first: int, spent: float) -> float:
        """Learning rate of a step in a run that started at ``first``.

        ``spent`` (0..1) is the share of the time limit that has passed.
        """
        left = 1 - max(step / self.steps, spent)
        rise = (step - first + 1) / self.warmup if self.warmup else 1.0
        fall = left / self.decay if self.decay else 1.0
        return self.lr * max(0.0, min(1.0, rise, fall))


def train(
    work: Workspace,
    stage: str,
    settings: TrainingRun,
    network: Network,
    losses: Losses,
    preview: Preview,
) -> tuple[Network, int]:
    """Train ``network`` until its steps or the time limit are over.

    Every step seeds its generators with its number, so a resumed run gets the batches of an
    uninterrupted one. Parameters that need no gradient keep their averaged values.

    Returns:
        The network with averaged weights, and the number of steps it has been trained.
    """
    average = deepcopy(network).eval().requires_grad_(False)
    trainable = [p for p in network.parameters() if p.requires_grad]
    state = _State(work, stage, settings, network, average, _optimizer(trainable, settings, work))
    step = first = state.resume()
    network.train()
    progress, saved = _Progress(state, step), time.monotonic()
    while step < settings.steps and work.spent() < 1:
        rate = settings.rate(step, first, work.spent())
        torch.manual_seed(hash((settings.seed, step)))
        terms = losses(np.random.default_rng([settings.seed, step]))
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if step == first:
            _require_gradients(stage, network)
        _update(state.adam, trainable, rate)
        step += 1
        _blend(average, network, min(settings.ema, (1 + step) / (10 + step)))
        progress.add(step, rate, terms)
        if time.monotonic() - saved > 60 * settings.every:
            state.save(step, preview)
            saved = time.monotonic()
            progress.reset(step)
    if step > first:
        state.save(step, preview)
    return average, step


def restore(work: Workspace, stage: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and averaged weights of a trained stage; ``ValueError`` if there are none."""
    path = work.folder / stage / "checkpoint.pt"
    if not path.exists():
        raise ValueError(f"{work.folder} has no trained {stage}; run --stage {stage} first")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    settings = {RENAMED.get(name, name): value for name, value in saved["settings"].items()}
    return settings, saved["average"]


def write_initial(
    work: Workspace, stage: str, settings: TrainingRun, step: int, network: nn.Module
) -> None:
    """Write a checkpoint from which a stage continues with the weights of ``network``.

    They are the averaged weights too; the optimizer starts anew.
    """
    network.requires_grad_(True)
    adam = _optimizer(list(network.parameters()), settings, work)
    _State(work, stage, settings, network, network, adam).write(step)


@dataclass
class _State:
    """Everything that a checkpoint of a stage holds."""

    work: Workspace
    stage: str
    settings: TrainingRun
    network: nn.Module
    average: nn.Module
    adam: torch.optim.Optimizer

    def resume(self) -> int:
        """Load the checkpoint, if there is one; the step to continue from."""
        path = self.work.folder / self.stage / "checkpoint.pt"
        if not path.exists():
            return 0
        saved = torch.load(path, map_location=self.work.device, weights_only=True)
        try:
            self.network.load_state_dict(saved["network"])
        except RuntimeError as error:
            options = ",".join(f"{name}={value}" for name, value in saved["settings"].items())
            raise ValueError(
                f"{path} belongs to a different network, trained with {options}"
            ) from error
        self.average.load_state_dict(saved["average"])
        for current, averaged in zip(
            self.network.parameters(), self.average.parameters(), strict=True
        ):
            if not current.requires_grad:
                current.data.copy_(averaged)
        trainable = sum(len(group["params"]) for group in self.adam.param_groups)
        if trainable == sum(len(group["params"]) for group in saved["optimizer"]["param_groups"]):
            self.adam.load_state_dict(saved["optimizer"])
        return int(saved["step"])

    def write(self, step: int) -> None:
        """Write the checkpoint."""
        saved = {
            "settings": asdict(self.settings),
            "step": step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.adam.state_dict(),
        }
        with writing(self.work.place(self.stage) / "checkpoint.pt", overwrite=True) as file:
            torch.save(saved, file)

    def save(self, step: int, preview: Preview) -> None:
        """Write the checkpoint, then the sample sheet and the numbers of ``preview``."""
        self.write(step)
        with torch.no_grad():
            image, numbers = preview(self.average)
        if image is not None:
            image.save(self.work.place(f"{self.stage}/samples") / f"{step:07d}.png")
        self.work.log(self.stage, step=step, **numbers)
        values = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self.work.say(f"{self.stage}: {values}")


class _Progress:
    """Prints and logs the mean loss terms and the speed every ``INTERVAL`` seconds."""

    def __init__(self, state: _State, step: int) -> None:
        self.state = state
        self.reset(step)

    def reset(self, step: int) -> None:
        """Start a new interval after ``step`` steps."""
        self.time, self.step, self.sums = time.monotonic(), step, dict[str, Tensor]()

    def add(self, step: int, rate: float, terms: dict[str, Tensor]) -> None:
        """Note the loss terms of a step; print if the interval or the training is over."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()
        now, settings, stage = time.monotonic(), self.state.settings, self.state.stage
        if now - self.time > INTERVAL or step == settings.steps:
            count = step - self.step
            means = {name: float(total) / count for name, total in self.sums.items()}
            speed = count * settings.batch / (now - self.time)
            work = self.state.work
            work.log(stage, step=step, lr=rate, speed=round(speed, 1), **means)
            values = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
            line = f"{stage}: step {step} of {settings.steps}  {values}  lr {rate:.1e}"
            work.say(f"{line}  {speed:.1f} samples/s")
            self.reset(step)


def _optimizer(
    trainable: list[nn.Parameter], settings: TrainingRun, work: Workspace
) -> torch.optim.Optimizer:
    fused = {"fused": True} if work.device != "mps" else {}
    return torch.optim.AdamW(
        trainable, lr=settings.lr, weight_decay=0.01, betas=(0.9, 0.99), **fused
    )


def _update(adam: torch.optim.Optimizer, trainable: list[nn.Parameter], rate: float) -> None:
    """One step of the optimizer with clipped gradients."""
    for group in adam.param_groups:
        group["lr"] = rate
    nn.utils.clip_grad_norm_(trainable, 1.0)
    adam.step()
    adam.zero_grad(set_to_none=True)


def _require_gradients(stage: str, network: nn.Module) -> None:
    """Raise ``RuntimeError`` if no gradient reaches a parameter, as after a compiler's mistake."""
    dead = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    if dead:
        raise RuntimeError(
            f"{stage}: no gradient reaches {len(dead)} parameters, such as {dead[0]}"
        )


@torch.no_grad()
def _blend(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of the parameters; buffers are copied."""
    averaged: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(averaged, current, 1 - decay)
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)
