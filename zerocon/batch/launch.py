"""Several processes at one work, as ``accelerate launch`` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

RESTARTS = 1000  # of processes of which one ended early; each time their work goes on where it was


def rank() -> int:
    """Which of several processes this one is, from 0; 0 also where there is one."""
    return int(os.environ.get("RANK", 0))


def own_device() -> str | None:
    """The GPU of this process, where several are at work on one machine; None for no other reason.

    They never talk to each other, so that none waits for one that has died.
    """
    if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) < 2 or not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"


def launch(module: str, arguments: Sequence[str], count: int) -> subprocess.Popen[bytes]:
    """Start a module in ``count`` processes by accelerate, and again where one of them dies."""
    own = ["--multi_gpu", "--num_machines", "1", "--num_processes", str(count)]
    own += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    own += ["--max_restarts", str(RESTARTS), "-m", module, *arguments]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    # -m would put the working directory, and so any torch.py in it, before the installed packages
    safe = {"PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "accelerate.commands.launch", *own],
        env={"OMP_NUM_THREADS": threads, **os.environ, **safe},
    )
