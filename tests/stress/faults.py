"""The table of faults: what is injected into ``zerocon batch``, how often, and what must hold."""

from __future__ import annotations

from stress import inputs, signals, storage
from stress.trials import KILL, Fault

ALL = "every result exists once with the bytes of an undisturbed run, nothing is left behind"
RERUN = f"after the same command {ALL}"
STOPPED = f"exit code 130, no job still running; {RERUN}"
REFUSED = "exit code 2 with a one-line error, no partial file"

FAULTS = {
    KILL: Fault(signals.kill, 50, f"no partial file; {RERUN}"),
    "SIGTERM": Fault(signals.terminate, 10, STOPPED),
    "Ctrl-C": Fault(signals.interrupt, 10, STOPPED),
    "disk full": Fault(storage.fill_disk, 5, f"{REFUSED}; with space {ALL}"),
    "disk of the cache full": Fault(storage.fill_cache_disk, 1, f"a warning; {ALL}"),
    "output directory removed": Fault(
        storage.remove_outputs, 3, f"{REFUSED}, no new directory; {RERUN}"
    ),
    "output directory read-only": Fault(storage.lock_outputs, 3, f"{REFUSED}; {RERUN}"),
    "result truncated, changed or deleted": Fault(
        storage.damage_results, 9, f"--resume --overwrite repeats exactly those edits; {ALL}"
    ),
    "journal truncated or overwritten": Fault(
        storage.damage_journal, 12, "a one-line error, or all as before; no result changed"
    ),
    "cache entries changed": Fault(storage.damage_cache, 2, f"a warning; {ALL}"),
    "two batches at once": Fault(signals.run_twice, 5, f"exit code 0, no edit repeated; {ALL}"),
    "clock jumps back": Fault(signals.turn_clock_back, 2, f"no edit repeated; {ALL}"),
    "bad image": Fault(inputs.bad_images, 100, "a reason with an id; the good images edited"),
    "odd name": Fault(inputs.odd_names, 30, "a result with the right bytes; too long: a reason"),
    "loop of links": Fault(inputs.link_loops, 1, ALL),
    "10000 edits, killed twice": Fault(
        inputs.large_manifest,
        1,
        "planned in 60 s of a core and 2 GB; all jobs recorded, no edit repeated",
    ),
    "worker of --devices 2 killed": Fault(inputs.kill_worker, 1, f"each job reported once; {ALL}"),
    "launcher of --devices 2 killed": Fault(inputs.kill_launcher, 1, RERUN),
}
