"""``zerocon models pull`` from a hub on this machine: sizes, a question, interruptions, errors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny
from click.testing import CliRunner
from huggingface_hub import errors, hf_api

from zerocon.cli import main

NAME, COMMIT = "someone/tiny", "0" * 40
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
# A small unit of transfer, so that a small file can be interrupted in the middle.
DRIVER = (
    "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 1024; "
    "from zerocon.cli import main; main()"
)


class Hub(ThreadingHTTPServer):
    """The hub's protocol for one model: its tree, its commit, and its files in ranges.

    Attributes:
        files: Contents by path.
        claimed: Sizes that the tree states instead of the true ones.
        breaks: A file whose connection breaks off in the middle, the first time.
        refused: A file that is refused.
        requests: The files that were requested, with the Range header.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.claimed = files, dict[str, int]()
        self.breaks = self.refused = ""
        self.requests: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def hub_hash(name: str, data: bytes) -> str:
    """The ETag of a file: SHA-256 of large files, and git's hash of all others."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{NAME}/tree/"):
            sizes = {name: len(data) for name, data in self.server.files.items()}
            entries = [
                {"type": "file", "oid": f"{i:040}", "path": name, "size": size}
                for i, (name, size) in enumerate((sizes | self.server.claimed).items())
            ]
            self.answer(json.dumps(entries).encode())
        elif path.startswith(f"/api/models/{NAME}"):
            self.answer(json.dumps({"id": NAME, "sha": COMMIT, "siblings": []}).encode())
        elif (name := path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")) in self.server.files:
            self.file(name)
        else:
            self.send_error(404)

    def file(self, name: str) -> None:
        data, wanted = self.server.files[name], self.headers.get("Range")
        etag = f'"{hub_hash(name, self.server.files[name])}"'
        if self.command == "HEAD":
            self.answer(data, etag=etag)
            return
        self.server.requests.append((name, wanted))
        if name == self.server.refused:
            self.send_error(403)
        elif name == self.server.breaks and wanted is None:
            self.answer(data, etag=etag, sent=len(data) // 2)
            self.close_connection = True
        else:
            first = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
            self.answer(data[first:], etag=etag, code=206 if first else 200)

    def answer(
        self, data: bytes, *, etag: str = '"0"', code: int = 200, sent: int | None = None
    ) -> None:
        self.send_response(code)
        for header, value in (
            ("Content-Length", str(len(data))),
            ("ETag", etag),
            ("X-Repo-Commit", COMMIT),
            ("Accept-Ranges", "bytes"),
            ("Content-Type", "application/json"),
        ):
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:sent])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tiny.save(tmp_path_factory.mktemp("models") / "tiny")
    (saved / "zerocon.json").unlink()  # repositories have none
    return saved


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    server = Hub(files | {"README.md": b"# tiny", "v1.safetensors": b"x" * 100})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    more = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    return {**os.environ, **more, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def pull(
    hub: Hub, home: Path, *args: str, driver: str = DRIVER
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", driver, "models", "pull", NAME, *args]
    return subprocess.run(command, env=environment(hub, home), capture_output=True, text=True)


def messages(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr without those of the hub's progress bars."""
    return [line for line in done.stderr.splitlines() if not re.search(r"\d%\||it/s|B/s", line)]


def test_sizes_are_printed_before_the_files_that_are_needed_are_downloaded(
    hub: Hub, tmp_path: Path
) -> None:
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    snapshot = Path(done.stdout.strip())
    needed = hub.files.keys() - {"README.md", "v1.safetensors"}
    assert {str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_file()} == needed
    lines, total = messages(done), sum(len(hub.files[name]) for name in needed)
    assert f"{WEIGHTS}  {len(hub.files[WEIGHTS]) / 1e6:.2f} MB" in lines
    assert f"{NAME}: {total / 1e6:.2f} MB in {len(needed)} files" in lines
    again = pull(hub, tmp_path, "--format", "json")
    assert json.loads(again.stdout)["downloaded"] == 0
    assert f"{NAME}: all {len(needed)} files are here" in again.stderr
    assert pull(hub, tmp_path, "-q").stderr == ""


def test_a_connection_that_breaks_off_is_continued(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = WEIGHTS
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = [wanted for name, wanted in hub.requests if name == WEIGHTS]
    assert first is None
    assert second is not None and int(re.findall(r"\d+", second)[0]) > 1000
    assert (Path(done.stdout.strip()) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_after_a_failure_only_what_is_missing_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.refused = WEIGHTS
    broken = pull(hub, tmp_path)
    assert (broken.returncode, broken.stdout) == (3, "")
    (error,) = [line for line in messages(broken) if line.startswith("Error: ")]
    assert error.startswith(f"Error: cannot download {NAME}: ") and error.endswith("[ZC-E050]")
    assert messages(broken)[-1] == error
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / COMMIT
    before = {str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_file()}
    assert WEIGHTS not in before
    hub.refused, hub.requests = "", []
    done = pull(hub, tmp_path, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert WEIGHTS in {name for name, _ in hub.requests}
    assert before.isdisjoint({name for name, _ in hub.requests})


def on_terminal(hub: Hub, home: Path, answer: str, *args: str) -> tuple[int, str]:
    """Exit status and screen of a pull on a terminal, where ``answer`` is typed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-c", DRIVER, "models", "pull", NAME, *args]
    started = subprocess.Popen(
        command, env=environment(hub, home), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    output = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        output += part
    os.close(ours)
    return started.wait(), output.decode()


def test_a_large_download_waits_for_an_answer_on_a_terminal(hub: Hub, tmp_path: Path) -> None:
    hub.claimed = {WEIGHTS: 3_000_000_000}
    code, screen = on_terminal(hub, tmp_path, "n")
    assert code == 0 and "Download 3.00 GB? [Y/n]" in screen
    assert "Nothing is downloaded" in screen and not hub.requests


@pytest.mark.parametrize(
    ("answer", "args", "claimed"),
    [("y", [], 2_000_000_000), ("n", ["--yes"], 2_000_000_000), ("n", [], 900_000_000)],
)
def test_otherwise_it_goes_on(
    hub: Hub, tmp_path: Path, answer: str, args: list[str], claimed: int
) -> None:
    hub.claimed = {WEIGHTS: claimed}
    _, screen = on_terminal(hub, tmp_path, answer, *args)
    assert hub.requests and ("[Y/n]" in screen) == (answer == "y")


def test_without_a_terminal_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    hub.claimed = {WEIGHTS: 2_000_000_000}
    done = pull(hub, tmp_path)
    assert hub.requests and "[Y/n]" not in done.stderr


def test_a_model_that_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", DRIVER, "models", "pull", "no/body"]
    done = subprocess.run(command, env=environment(hub, tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert done.stderr.startswith("Error: cannot download no/body: ")


def test_no_hub_at_all(hub: Hub, tmp_path: Path) -> None:
    class Gone:
        address = "http://127.0.0.1:9"  # refuses connections

    # the client tries six times, with growing pauses
    impatient = f"import time; time.sleep = lambda seconds: None; {DRIVER}"
    done = pull(Gone, tmp_path, driver=impatient)  # type: ignore[arg-type]
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert f"cannot download {NAME}: http://127.0.0.1:9 cannot be reached" in done.stderr


# every class of error that the client raises


def http_errors() -> Iterator[Exception]:
    """Errors of the HTTP libraries that versions of the client use, as far as they are here."""
    for library in ("httpx2", "httpx"):
        module = _module(library)
        if module is None:
            continue
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, module.HTTPError):
                yield _made(kind)
        yield module.InvalidURL("bad url")
        yield module.StreamClosed()
    if (module := _module("requests")) is not None:
        yield module.ConnectionError("no route")
        yield module.exceptions.SSLError("certificate")


def _module(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        return None


def _made(kind: type[Exception]) -> Exception:
    """An error of this class, whatever its constructor takes."""
    error = kind.__new__(kind)
    error.args = ("the server is\nnot there",)
    return error


def client_errors() -> Iterator[Exception]:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            yield _made(kind)
    yield OSError("network is unreachable")
    yield OSError(errno.ENETUNREACH, "Network is unreachable")
    yield TimeoutError()
    yield RuntimeError("of the download backend")


ALL = [*client_errors(), *http_errors()]


@pytest.mark.parametrize("step", ["list_repo_tree", "snapshot_download"])
@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_every_error_of_the_client_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    config = hf_api.RepoFile(path="config.json", size=9, oid="0")
    monkeypatch.setattr(huggingface_hub, "list_repo_tree", lambda *_, **__: [config])
    monkeypatch.setattr(huggingface_hub, step, fail)
    done = CliRunner().invoke(main, ["models", "pull", NAME, "-q", "--format", "json"])
    assert done.exit_code == 3 and done.stderr.count("\n") == 1, done.output
    assert done.stderr.startswith(f"Error: cannot download {NAME}: ")
    assert json.loads(done.stdout)["error"]["id"] == "ZC-E050"


def test_the_classes_that_are_tested_are_those_of_the_client() -> None:
    tested = {type(error).__name__ for error in ALL}
    assert {
        "HfHubHTTPError", "LocalEntryNotFoundError", "RepositoryNotFoundError", "GatedRepoError",
        "OfflineModeIsEnabled", "ConnectError", "ReadTimeout", "InvalidURL",
    } <= tested  # fmt: skip


def test_a_full_disk_is_no_error_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "list_repo_tree", full)
    done = CliRunner().invoke(main, ["models", "pull", NAME])
    assert done.exit_code == 2 and "[ZC-E034]" in done.stderr


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.GatedRepoError, f"accept its conditions at .*/{NAME}, then log in: hf auth login"),
        (errors.RepositoryNotFoundError, "has no such model, or it is private"),
        (errors.OfflineModeIsEnabled, "network access is forbidden"),
    ],
)
def test_what_can_be_done_is_said(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise _made(kind)

    monkeypatch.setattr(huggingface_hub, "list_repo_tree", fail)
    assert re.search(message, CliRunner().invoke(main, ["models", "pull", NAME]).stderr)
