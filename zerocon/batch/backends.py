"""Who works on a run: this process, several on this machine, or those of a Ray cluster."""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, redirect_stdout
from importlib import import_module
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

from zerocon import api
from zerocon.batch.commit import recover
from zerocon.batch.executor import BatchExecutor, ExecutedJob, SourceImage, reason
from zerocon.batch.job import Job
from zerocon.batch.journal import Journal
from zerocon.batch.launch import launch
from zerocon.batch.worker import PAUSE, JobExecutor, JobResult, Worker
from zerocon.cache import Cache
from zerocon.errors import MissingPackageError, ZeroconError
from zerocon.model import Model

Results = Generator[JobResult]
MODEL = ("device", "dtype", "captioner", "clip", "prediction", "offload", "tile", "compile")


def alone(
    journal: Journal,
    run: int,
    model: Model,
    count: int,
    on_warning: Callable[[str], None] | None = None,
) -> Results:
    """Work in this process, ``count`` pictures at a time."""
    told = journal.told(run)
    return Worker(journal, run, _studio(model, told, on_warning), count, told["keep_gps"])()


def many(journal: Journal, run: int, command: Sequence[str], count: int) -> Results:
    """Work in ``count`` processes that ``command`` starts; this one looks on.

    A process that is killed is started again, and its orders go to whoever comes first. What is
    yielded is as the journal has it. Raises ``ZeroconError`` if the processes give up.
    """
    known = set(journal.names(run, "done", "failed"))
    module, *arguments = command
    processes = launch(module, arguments, count)
    try:
        ended: int | None = None
        while ended is None:
            ended = processes.poll()
            for name in journal.names(run, "done", "failed"):
                if name not in known and (entry := journal.entry(name)):
                    known.add(name)
                    yield JobResult(
                        entry, failure=entry.reason if entry.state == "failed" else None
                    )
            sleep(PAUSE)
    finally:
        if processes.poll() is None:
            processes.send_signal(signal.SIGTERM)
            processes.wait()
        recover(journal)
    if ended:
        raise ZeroconError(f"the processes ended with exit code {ended}; what they said is above")


def on_ray(
    journal: Journal, run: int, told: Mapping[str, Any], count: int, workers: int
) -> Results:
    """Work in so many ``workers`` of the Ray cluster that is running, or of one on this machine.

    Without a number there is one for every GPU of the cluster, or else for every core. Journal,
    pictures and results stay here: workers get a picture's content and give back that of the
    result, so that they share nothing but Ray. One that dies is started again and asked again.
    """
    try:
        ray: Any = import_module("ray")  # types and all: it is an extra
    except ImportError:
        raise MissingPackageError(
            'Ray is not here; get it with: pip install "zerocon[ray]"'
        ) from None
    if not ray.is_initialized():
        with TemporaryDirectory() as empty:
            # else workers would import any torch.py of the working directory
            safe = {"working_dir": empty}
            ray.init(log_to_driver=False, configure_logging=False, runtime_env=safe)
    there: Any = ray.cluster_resources()
    gpus, cpus = (int(there.get(name, 0)) for name in ("GPU", "CPU"))
    own: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(gpus > 0)}
    actor: Any = ray.remote(max_restarts=-1, max_task_retries=-1, **own)(RayExecutor)
    actors = [actor.remote(dict(told)) for _ in range(workers or gpus or cpus)]

    def maker(actor: Any) -> JobExecutor:
        def ask(jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | Exception]:
            made: list[ExecutedJob | Exception] = ray.get(actor.make.remote(list(jobs)))
            return made

        return ask

    try:
        with redirect_stdout(sys.stderr):  # where Ray says that somebody has died
            yield from together(journal, run, list(map(maker, actors)), count, told["keep_gps"])
    finally:
        for each in actors:
            ray.kill(each)


class RayExecutor:
    """A studio somewhere else: made when it is first asked, of what a run was told."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        model = api.load(told["model"], **{name: told[name] for name in MODEL})
        self.executor = _studio(model, told)

    def make(self, jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | Exception]:
        """As a studio does, errors in a form that survives the way back."""
        return [
            made if isinstance(made, ExecutedJob | ZeroconError) else ZeroconError(reason(made))
            for made in self.executor(jobs)
        ]


def together(
    journal: Journal, run: int, makers: Sequence[JobExecutor], count: int, keep_gps: bool
) -> Results:
    """Let several makers work on a run at once, each with a worker in a thread of its own."""
    results, stop = queue.Queue[JobResult | BaseException | None](), threading.Event()

    def work(make: JobExecutor) -> None:
        try:
            with closing(Worker(journal, run, make, count, keep_gps)()) as found:
                for done in found:
                    results.put(done)
                    if stop.is_set():
                        break
        except BaseException as error:
            results.put(error)
        finally:
            results.put(None)

    threads = [threading.Thread(target=work, args=(make,)) for make in makers]
    for thread in threads:
        thread.start()
    try:
        working = len(threads)
        while working:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            working -= result is None
            if result is not None:
                yield result
    finally:
        stop.set()
        for thread in threads:  # what they have in hand is finished
            thread.join()


def _studio(
    model: Model, told: Mapping[str, Any], on_warning: Callable[[str], None] | None = None
) -> BatchExecutor:
    cache = None if told["no_cache"] else Cache(on_warning=on_warning)
    return BatchExecutor(model, metadata=told["metadata"], cache=cache)
