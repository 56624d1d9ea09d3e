"""Runs Python programs for the Pulumi engine where the official installation, which brings a host, is missing.

The engine starts an executable `pulumi-language-python` and speaks the `LanguageRuntime` protocol with it. The official
one is a Go program that starts `pulumi-language-python-exec`; both come with the official installation only, and no
package registry has them. This one does the same with the SDK: each run of the program is a fresh Python process, so
that a preview leaves nothing behind for the update that follows it.

`python -m sandbox.language_host [ENGINE_ADDRESS]` prints its port and serves until the engine ends it or is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import grpc
import pulumi
from pulumi.runtime import reset_options, run_in_stack, set_all_config
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

_REPORTED = 32
"""Exit code of a program whose error the engine has been told already; the official host's own choice."""
_REFUSED = 1
"""Exit code of a program that raised `pulumi.RunError`, which the official host reports beside the error itself."""
_MARK = "# Written by sandbox.language_host"
_RUN_FLAG = "--run-program"
_PIECE_BYTES = 65536
_MESSAGE_BYTES = 400 * 1024 * 1024  # as the engine's own limit


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The part of the LanguageRuntime protocol that `pulumi up`, `preview`, `refresh` and `destroy` use, with or without a policy pack."""

    def __init__(self, engine_address: str) -> None:
        self._engine_address = engine_address

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._engine_address = request.engine_address or self._engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version="0.0.0")

    def About(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.AboutResponse(executable=sys.executable, version=sys.version.split()[0])

    def GetRequiredPlugins(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.GetRequiredPluginsResponse()

    def GetRequiredPackages(self, request: Any, context: grpc.ServicerContext) -> Any:
        """None ahead of time: the engine then looks for a plugin when a resource asks for it, on PATH first."""
        return language_pb2.GetRequiredPackagesResponse()

    def GetProgramDependencies(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.GetProgramDependenciesResponse()

    def InstallDependencies(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Nothing: this host runs in the environment that holds them."""
        return iter(())

    def Run(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs the program once, in a process of its own; its output is the host's, which the engine shows."""
        done = subprocess.run(
            [sys.executable, "-u", "-P", "-m", "sandbox.language_host", _RUN_FLAG, self._engine_address],
            input=request.SerializeToString(),
            check=False,
            cwd=request.pwd or request.info.program_directory or None,
        )
        if done.returncode == 0:
            return language_pb2.RunResponse()
        if done.returncode == _REPORTED:
            return language_pb2.RunResponse(bail=True)
        # In the official host's words, in which a process that a signal ended has the code -1.
        return language_pb2.RunResponse(error=f"program exited with non-zero exit code: {max(done.returncode, -1)}")

    def RunPlugin(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Runs a plugin written in Python, such as a policy pack, in the environment of this host; its output is passed on as it comes."""
        plugin = subprocess.Popen(
            [sys.executable, "-u", request.info.program_directory, *request.args],
            cwd=request.pwd or None,
            env={**os.environ, **dict(entry.partition("=")[::2] for entry in request.env)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        context.add_callback(plugin.kill)  # the engine no longer needs it
        said: SimpleQueue[Any] = SimpleQueue()
        readers = [
            threading.Thread(target=_pass_on, args=(plugin.stdout, lambda text: language_pb2.RunPluginResponse(stdout=text), said), daemon=True),
            threading.Thread(target=_pass_on, args=(plugin.stderr, lambda text: language_pb2.RunPluginResponse(stderr=text), said), daemon=True),
        ]
        for reader in readers:
            reader.start()
        for _ in readers:
            yield from iter(said.get, None)
        yield language_pb2.RunPluginResponse(exitcode=plugin.wait())


def _pass_on(stream: IO[bytes] | None, message: Callable[[bytes], Any], to: SimpleQueue[Any]) -> None:
    """Puts what a stream gives into a queue, as it comes, and None at its end."""
    while stream is not None and (text := os.read(stream.fileno(), _PIECE_BYTES)):
        to.put(message(text))
    to.put(None)


def install(bin_dir: Path, cli: Path) -> list[str]:
    """Writes the executable `pulumi-language-python` into `bin_dir`, where the engine `cli` finds no real one.

    The engine looks beside itself, which is not beside a link to it, and on PATH. An executable written for a real one that has come
    since is removed. Gives a line that says what is stood in for, or none.
    """
    target = bin_dir / "pulumi-language-python"
    folders = [cli.parent, cli.resolve().parent, *map(Path, filter(None, os.environ.get("PATH", os.defpath).split(os.pathsep)))]
    if any(os.access(folder / target.name, os.X_OK) and not _is_ours(folder / target.name) for folder in folders):
        if _is_ours(target):
            target.unlink()
        return []
    project = shlex.quote(str(Path(__file__).resolve().parent.parent))
    draft = target.with_name(f".{target.name}.{os.getpid()}")  # an engine may be starting the old one right now
    draft.write_text(
        f"#!/bin/sh\n{_MARK}\nPYTHONPATH={project}${{PYTHONPATH:+:$PYTHONPATH}}\nexport PYTHONPATH\n"
        f'exec {shlex.quote(sys.executable)} -u -P -m sandbox.language_host "$@"\n'
    )
    draft.chmod(0o755)
    draft.replace(target)
    return ["python: language host of the SDK (the official installation of Pulumi, which has one, is missing)"]


def _is_ours(path: Path) -> bool:
    """Whether a language host was written here, by this checkout or another."""
    try:
        with path.open("rb") as opened:
            return _MARK.encode() in opened.read(200)
    except OSError:
        return False


def serve(engine_address: str) -> None:
    """Serves until the process is ended, or until the process that started it is gone."""
    limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=limits)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(engine_address), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))  # how the engine ends a plugin it no longer needs
    _end_with_parent()
    server.wait_for_termination()


def run_program(serialized: bytes, engine_address: str) -> int:
    """Runs the program that a serialized RunRequest names and gives the exit code of its process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the engine says what was interrupted; a traceback adds nothing
    _end_with_parent()  # without an engine the SDK waits for ever to be ended
    request = language_pb2.RunRequest.FromString(serialized)
    entry = Path(request.info.program_directory or request.pwd, request.info.entry_point or request.program or ".")
    program = entry / "__main__.py" if entry.is_dir() else entry
    sys.path.insert(0, str(program.parent))
    sys.argv = [str(program), *request.args]
    reset_options(
        project=request.project,
        stack=request.stack,
        monitor_address=request.monitor_address,
        engine_address=engine_address,
        parallel=request.parallel,
        preview=request.dryRun,
        organization=request.organization or "organization",
    )
    set_all_config(dict(request.config), list(request.configSecretKeys))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what a failed task raised is reported below, once
    loop = asyncio.new_event_loop()
    # As the official host: awaiting many outputs must not starve the default executor.
    loop.set_default_executor(ThreadPoolExecutor(max_workers=max(request.parallel, 1) * 4))
    try:
        loop.run_until_complete(run_in_stack(lambda: _run_main(program)))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return _REFUSED
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:  # the engine is on its way out and said why
            return _REPORTED
        pulumi.log.error(f"the engine answered with an error: {error.details()}")
        return _REPORTED
    except Exception:
        pulumi.log.error(f"the program failed with an unhandled exception:\n{traceback.format_exc()}")
        return _REPORTED
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                loop.run_until_complete(task)
        loop.close()
    return 0


def _run_main(program: Path) -> None:
    runpy.run_path(str(program), run_name="__main__")


def _end_with_parent() -> None:
    """Ends this process once its parent is another one: an engine that is killed outright ends no plugin."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """The command line described at the top of the module."""
    addresses = [argument for argument in arguments if not argument.startswith("-")]
    engine_address = addresses[-1] if addresses else ""
    if _RUN_FLAG in arguments:
        return run_program(sys.stdin.buffer.read(), engine_address)
    serve(engine_address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
