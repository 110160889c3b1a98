"""Several processes at one work, as ``accelerate launch`` or ``torchrun`` start them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch

RESTARTS = 1000  # of a group of which one ended early; each time its work goes on where it was


def launched() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ


class Group:
    """This process among the others; ``rank`` 0 is the first, ``device`` is its own."""

    def __init__(self) -> None:
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        self.rank, self.device = int(state.process_index), str(state.device)

    def agree(self, value: Any) -> Any:
        """The first one's value, in all of them; each waits for it."""
        from accelerate.utils import broadcast_object_list

        values = [value]
        broadcast_object_list(values)
        return values[0]


def launch(module: str, arguments: Sequence[str], count: int) -> subprocess.Popen[bytes]:
    """Start a module in ``count`` processes that know of each other, and again if one ends early.

    It is what ``accelerate launch`` does for several GPUs, and works on CPUs, too.
    """
    own = ["--standalone", "--nproc-per-node", str(count), "--max-restarts", str(RESTARTS)]
    command = [sys.executable, "-m", "torch.distributed.run", *own, "-m", module, *arguments]
    threads = max(1, (os.cpu_count() or 1) // count)
    return subprocess.Popen(command, env={"OMP_NUM_THREADS": str(threads), **os.environ})
