"""Checks of one model: what its first user runs and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np
import torch
from PIL import ImageChops
from torch import Tensor

from zerocon import api
from zerocon.bench.tasks import Task, choose
from zerocon.diagnostics.doctor import GIGABYTE, Check, checked
from zerocon.errors import NotFiniteError
from zerocon.model import Model, ModelSpec, load
from zerocon.model.guidance_scale import measured_scale
from zerocon.model.precision import record_float32
from zerocon.settings import Settings

T = TypeVar("T")

IDENTITY_STEPS = 4
ROUNDING = 4  # levels: some devices round the rows of a batch differently
TIMED = 3  # U-Net evaluations


@dataclass
class ModelChecks:
    """A loaded model and the drawn scene that it edits; ``run`` yields the checks.

    Attributes:
        model: The model.
        task: A scene of the size of the model's images, and its edit.
        edited: The edit of the check "example", once it is done.
    """

    model: Model
    task: Task
    edited: api.Edit | None = None

    @classmethod
    def of(cls, model: Model) -> ModelChecks:
        """The checks of a loaded model."""
        return cls(model, choose("validation", 1, size=model.size)[0])

    def run(self) -> Iterator[Check]:
        """All checks, one after the other; a check that raises is "error"."""
        checks: dict[str, Callable[[str], Check]] = {
            "network": self.network,
            "scale": self.scale,
            "identity": self.identity,
            "example": self.example,
        }
        for name, check in checks.items():
            yield checked(name, check)
        if self.edited is not None:
            yield checked("trace", self.trace)

    def network(self, name: str) -> Check:
        """Largest values that the networks compute, all finite, and the time of an evaluation."""
        message, lines = self._finite(self._network)
        return Check(name, "note" if lines else "ok", message, "; ".join(lines))

    def _network(self) -> str:
        model = self.model
        latents = model.encode(api.prepared_for(self.task.image, model).pixels)
        pixels, c = model.decode(latents), model.embed([self.task.caption])
        levels = model.schedule(IDENTITY_STEPS).levels
        with torch.no_grad():
            noises = [model.eps(latents, level.time, c) for level in levels]
            start = perf_counter()
            for _ in range(TIMED):
                _largest(model.eps(latents, levels[-1].time, c))  # which waits for the device
        seconds = (perf_counter() - start) / TIMED
        values = {"latents": latents, "pixels": pixels, "embeddings": c.tokens}
        values["noise"] = torch.stack(noises)
        largest = {what: _largest(value) for what, value in values.items()}
        message = ", ".join(f"{what} {value:.3g}" for what, value in largest.items())
        return f"largest values: {message}; {seconds:.3g} s per U-Net evaluation"

    def scale(self, name: str) -> Check:
        """The guidance scale that suits the model, and the one that edits use."""
        result, lines = self._finite(lambda: measured_scale(self.model))
        used = self.model.settings.guidance_scale
        when = "measured" if result.measured else "measured before"
        message = f"response {result.response:.4f}, guidance scale {result.scale:g} ({when})"
        if used is not None:
            message += f"; the model's zerocon.json sets {used}"
        return Check(name, "note" if lines else "ok", message, "; ".join(lines))

    def identity(self, name: str) -> Check:
        """An edit of strength 0, all steps computed: the source, encoded and decoded."""
        # source and edit in one batch, so that equal inputs give equal bits
        changed = {"steps": IDENTITY_STEPS, "strength": 0.0, "composite": "model"}
        edited = self._edit(self.model.settings.overlay({**changed, "cache_source": False}))
        kept = api.reconstruct(self.task.image, self.model)
        if edited.image.tobytes() == kept.tobytes():
            return Check(name, "ok", "an edit of strength 0 returns the source, bit for bit")
        most = int(np.max(np.array(ImageChops.difference(edited.image, kept))))
        message = f"an edit of strength 0 changes the source, by up to {most} of 255 levels"
        return Check(name, "note" if most <= ROUNDING else "error", message)

    def example(self, name: str) -> Check:
        """An edit of the drawn scene with the model's default settings."""
        cuda = self.model.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.model.device)
        start = perf_counter()
        self.edited = edited = self._edit(self.model.settings)
        seconds = perf_counter() - start
        message = (
            f'"{edited.caption}" -> "{edited.target_caption}" in {seconds:.1f} s, '
            f"{edited.settings.steps} steps, {edited.evaluations.total:.1f} U-Net evaluations"
        )
        if edited.review is not None:
            message += f"; changed {edited.review.changed:.1f} of 255 levels"
        if cuda:
            peak = torch.cuda.max_memory_allocated(self.model.device) / GIGABYTE
            message += f"; {peak:.2f} GB peak"
        warnings = [line for line in edited.warnings if line not in edited.trace.doubts()]
        return Check(name, "note" if warnings else "ok", message, "; ".join(warnings))

    def trace(self, name: str) -> Check:
        """How far the latents of that edit went from the source's."""
        assert self.edited is not None  # see ``run``
        trace = self.edited.trace
        far, excess = trace.difference, max(trace.excess)
        first = next((each for each in far if each > 0), 0.0)
        message = (
            f"|D| in norms of the source: first {first:.2f}, middle {far[len(far) // 2]:.2f}, "
            f"last {far[-1]:.2f}, largest {max(far):.2f}; predicted latents at most "
            f"{max(excess, 0.0):.1f} standard deviations outside the source's range"
        )
        doubts = trace.doubts()
        return Check(name, "note" if doubts else "ok", message, "; ".join(doubts))

    def _finite(self, run: Callable[[], T]) -> tuple[T, list[str]]:
        """What ``run`` returns, and warnings of parts that computed again in float32."""
        lines: list[str] = []
        with record_float32() as record:
            result = api.run_finite(run, self.model, lines.append)
        return result, [*lines, *record.warnings(self.model.runtime.dtype)]

    def _edit(self, settings: Settings) -> api.Edit:
        """The edit of the scene; with a callback, so that no step is left out."""
        return api.edit(
            self.task.image,
            **self.task.prompt,
            caption=self.task.caption,
            model=self.model,
            settings=settings,
            on_step=lambda _: None,
        )


def examine_model(spec: ModelSpec) -> Iterator[Check]:
    """Load a model and check it; where it cannot be loaded, that is the only check."""
    loaded: list[Model] = []

    def load_it(name: str) -> Check:
        start = perf_counter()
        loaded.append(load(spec))
        model = loaded[0]
        message = (
            f"{model.name} on {model.device}, {model.runtime.dtype}, {model.prediction}, "
            f"{model.size} pixels, loaded in {perf_counter() - start:.1f} s; "
            f"weights {model.fingerprint()}"
        )
        return Check(name, "ok", message)

    yield checked("model", load_it)
    for model in loaded:
        yield from ModelChecks.of(model).run()


def _largest(values: Tensor) -> float:
    """The largest magnitude; ``NotFiniteError`` if it is not finite."""
    largest = float(values.abs().max())
    if not largest < float("inf"):
        raise NotFiniteError("the network computed NaN or infinity; try --dtype float32")
    return largest
