"""Where the Pulumi command line is: on PATH where it is new enough, otherwise built once from its Go module.

The build is pinned by `toolchain/go.mod` and kept in a cache folder that every checkout of this user shares.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parent.parent

_MODULE = "github.com/pulumi/pulumi/pkg/v3"
_VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
_HEARTBEAT_SECONDS = 15

Say = Callable[[str], None]


class CliError(Exception):
    """There is no usable Pulumi command line, and none could be built; the message says what to install."""


def find_or_build(say: Say, project: Path = PROJECT) -> Path:
    """The path of a Pulumi command line that `Pulumi.yaml` accepts. `say` gets a line now and then from a long build.

    Raises CliError.
    """
    needed = required_version(project)
    found = shutil.which("pulumi")
    seen = version_of(Path(found)) if found else None
    if found and seen and seen >= needed:
        return Path(found).resolve()
    if seen:
        say(f"the pulumi on PATH is version {_dotted(seen)}; this project needs {_dotted(needed)} or newer")
    return _from_cache(say, project)


def required_version(project: Path = PROJECT) -> tuple[int, ...]:
    """The oldest version that `Pulumi.yaml` accepts, from its `requiredPulumiVersion`, which has the form `>=X.Y.Z`.

    Raises CliError.
    """
    wanted = str(yaml.safe_load((project / "Pulumi.yaml").read_text()).get("requiredPulumiVersion", ""))
    match = re.fullmatch(r">=\s*(\d+\.\d+\.\d+)", wanted.strip())
    if not match:
        raise CliError(f"requiredPulumiVersion in Pulumi.yaml is {wanted!r}; expected the form >=3.216.0")
    return _numbers(match.group(1))


def pinned_version(project: Path = PROJECT) -> str:
    """The version that `toolchain/go.mod` pins, such as `v3.259.0`. Raises CliError."""
    go_mod = project / "toolchain" / "go.mod"
    match = re.search(rf"^require {re.escape(_MODULE)} (v\S+)$", go_mod.read_text(), re.MULTILINE)
    if not match:
        raise CliError(f"{go_mod} does not require {_MODULE}, so it is not known which Pulumi to build")
    return match.group(1)


def version_of(cli: Path) -> tuple[int, ...] | None:
    """The version a Pulumi command line says it has; None where it does not run or does not say."""
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        printed = subprocess.run([cli, "version"], capture_output=True, text=True, timeout=60, check=True, env=environment).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"v?(\d+\.\d+\.\d+)", printed.strip())
    return _numbers(match.group(1)) if match else None


def cache_folder(project: Path = PROJECT) -> Path:
    """The folder that holds the built command line, shared by this user's checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "clarity-infra" / f"pulumi-{pinned_version(project)}"


def _from_cache(say: Say, project: Path) -> Path:
    folder = cache_folder(project)
    cli = folder / "pulumi"
    if not cli.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / "lock", say):
            if not cli.exists():  # the one that held the lock may have built it
                _build(cli, say, project)
    return cli


def _build(cli: Path, say: Say, project: Path) -> None:
    """Builds to a name of its own and renames, so that a build cut short leaves nothing that looks finished."""
    version = pinned_version(project)
    go = shutil.which("go")
    if not go:
        raise CliError(
            f"neither a Pulumi command line of version {_dotted(required_version(project))} or newer nor Go to build "
            "one is on PATH. Install Pulumi (https://www.pulumi.com/docs/install/) or Go 1.21 or newer "
            "(https://go.dev/doc/install)."
        )
    say(f"building the Pulumi command line {version} from its Go module, once for all checkouts (3 to 10 minutes)")
    descriptor, unfinished = tempfile.mkstemp(prefix="pulumi-", dir=cli.parent)
    os.close(descriptor)
    command = [
        go,
        "build",
        "-v",
        "-trimpath",
        "-ldflags",
        f"-s -w -X {_VERSION_VARIABLE}={version}",
        "-o",
        unfinished,
        f"{_MODULE}/cmd/pulumi",
    ]
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off", "CGO_ENABLED": "0"}
    try:
        with tempfile.TemporaryFile("w+") as output:
            status = _run_with_heartbeat(command, project / "toolchain", environment, output.fileno(), say)
            output.seek(0)
            if status != 0:
                tail = "".join(output.readlines()[-20:])
                raise CliError(f"building the Pulumi command line {version} failed (exit {status}):\n{tail}")
        os.chmod(unfinished, 0o755)
        if version_of(Path(unfinished)) is None:
            raise CliError(f"the Pulumi command line {version} was built but does not run")
        os.rename(unfinished, cli)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
    say(f"the Pulumi command line {version} is ready")


def _run_with_heartbeat(command: list[str], folder: Path, environment: dict[str, str], output: int, say: Say) -> int:
    started = time.monotonic()
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as process:
        while True:
            try:
                return process.wait(timeout=_HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                minutes, seconds = divmod(round(time.monotonic() - started), 60)
                say(f"  still building, {minutes}:{seconds:02}")
            except BaseException:
                process.terminate()
                raise


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    """Holds a lock among this user's checkouts; the kernel lets go of it when its holder ends, however it ends."""
    with path.open("w") as held:
        waited = 0
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % _HEARTBEAT_SECONDS == 0:
                    say(f"  another checkout is building the Pulumi command line; waiting, {waited} s")
                time.sleep(1)
                waited += 1
        yield


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
