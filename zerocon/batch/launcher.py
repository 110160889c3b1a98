"""Worker processes on one machine, started by ``accelerate launch``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from zerocon.storage.processes import safe_environment

RESTARTS = 1000  # times that the processes are started again after one of them died


def rank() -> int:
    """Return the number of this process among several, from 0; 0 also for a single one."""
    return int(os.environ.get("RANK", 0))


def worker_device() -> str | None:
    """Return the GPU of this process if several run on this machine; None: no preference.

    The processes do not communicate, so that none waits for one that has died.
    """
    import torch

    if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) < 2 or not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"


def launch(module: str, arguments: Sequence[str], count: int) -> subprocess.Popen[bytes]:
    """Start a module in ``count`` processes by accelerate; they are restarted if one dies."""
    options = ["--multi_gpu", "--num_machines", "1", "--num_processes", str(count)]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    options += ["--max_restarts", str(RESTARTS), "-m", module, *arguments]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "accelerate.commands.launch", *options],
        env={"OMP_NUM_THREADS": threads, **safe_environment()},
    )
