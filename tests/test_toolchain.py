"""Where the tools come from: the Pulumi command line, the virtual environment."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox import pulumi_cli
from sandbox.pulumi_cli import CliError

NEEDED = ".".join(map(str, pulumi_cli.required_version()))


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def pulumi_script(path: Path, version: str) -> Path:
    return write_script(path, f"echo {version}")


def go_script(path: Path, calls: Path, *, seconds: float = 0) -> Path:
    """A `go` whose build makes a command line that says its version, and that notes its arguments."""
    return write_script(
        path,
        f'echo "$@" >> {calls}\nsleep {seconds}\nwhile [ "$1" != -o ]; do shift; done\nprintf \'#!/bin/sh\\necho v3.259.0\\n\' > "$2"',
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a PATH with the system's own tools and `tmp_path/bin` in front of them."""
    system = tmp_path / "system"
    for tool in ("sh", "sleep", "dirname"):
        found = shutil.which(tool)
        assert found
        system.mkdir(exist_ok=True)
        (system / tool).symlink_to(found)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{system}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return pulumi_cli.cache_folder()


def test_the_pinned_command_line_is_one_the_project_accepts() -> None:
    pinned = pulumi_cli.pinned_version()
    assert tuple(map(int, pinned.removeprefix("v").split("."))) >= pulumi_cli.required_version()
    assert f"github.com/pulumi/pulumi/pkg/v3 {pinned} h1:" in (pulumi_cli.PROJECT / "toolchain/go.sum").read_text()


def test_a_new_enough_pulumi_on_path_is_taken(tmp_path: Path, cache: Path) -> None:
    cli = pulumi_script(tmp_path / "bin/pulumi", f"v{NEEDED}")
    assert pulumi_cli.find_or_build(print) == cli
    assert not cache.exists()


@pytest.mark.parametrize("version", ["v3.100.0", "v2.999.999", "nonsense"])
def test_another_pulumi_on_path_is_passed_over(tmp_path: Path, cache: Path, version: str) -> None:
    pulumi_script(tmp_path / "bin/pulumi", version)
    go_script(tmp_path / "bin/go", tmp_path / "calls")
    said: list[str] = []
    assert pulumi_cli.find_or_build(said.append) == cache / "pulumi"
    assert any(NEEDED in line for line in said) == version.startswith("v")


def test_neither_pulumi_nor_go_is_an_error_that_says_what_to_install(cache: Path) -> None:
    with pytest.raises(CliError, match=rf"{re.escape(NEEDED)}.*Install Pulumi .* or Go"):
        pulumi_cli.find_or_build(print)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_the_build_is_done_once_and_says_the_version(tmp_path: Path, cache: Path) -> None:
    go_script(tmp_path / "bin/go", tmp_path / "calls")
    first = pulumi_cli.find_or_build(print)
    assert pulumi_cli.find_or_build(print) == first == cache / "pulumi"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert f"version.Version={pulumi_cli.pinned_version()}" in calls[0]
    assert first.stat().st_mode & stat.S_IXOTH
    assert sorted(path.name for path in cache.iterdir()) == ["lock", "pulumi"]


def test_a_failed_build_shows_why_and_leaves_nothing_that_looks_finished(tmp_path: Path, cache: Path) -> None:
    write_script(tmp_path / "bin/go", "echo 'no such module' >&2\nexit 3")
    with pytest.raises(CliError, match=r"exit 3[\s\S]*no such module"):
        pulumi_cli.find_or_build(print)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_a_build_that_does_not_run_is_not_kept(tmp_path: Path, cache: Path) -> None:
    write_script(tmp_path / "bin/go", 'while [ "$1" != -o ]; do shift; done\necho broken > "$2"')
    with pytest.raises(CliError, match="does not run"):
        pulumi_cli.find_or_build(print)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_two_checkouts_do_not_build_at_once_and_both_show_life(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi_cli, "_HEARTBEAT_SECONDS", 1)
    go_script(tmp_path / "bin/go", tmp_path / "calls", seconds=2.5)
    said: list[str] = []
    checkouts = [threading.Thread(target=pulumi_cli.find_or_build, args=[said.append]) for _ in range(2)]
    for checkout in checkouts:
        checkout.start()
    for checkout in checkouts:
        checkout.join()
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert any("still building" in line for line in said)
    assert any("another checkout is building" in line for line in said)
    assert (cache / "pulumi").exists()


@pytest.mark.parametrize("wanted", ["", "3.216.0", ">3"])
def test_a_required_version_of_another_form_is_refused(tmp_path: Path, wanted: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(f'name: x\nruntime: python\nrequiredPulumiVersion: "{wanted}"\n')
    with pytest.raises(CliError, match="requiredPulumiVersion"):
        pulumi_cli.required_version(tmp_path)


class TestMakeVenv:
    """toolchain/make-venv, with interpreters and a pip that only note how they were called."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        shutil.copy(pulumi_cli.PROJECT / "toolchain/make-venv", tmp_path)
        return tmp_path

    def run(self, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["./make-venv", "venv"],
            cwd=folder,
            env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def python_script(self, path: Path, *, version: tuple[int, int]) -> Path:
        """An interpreter of any version: it answers the question for the range, and makes environments of itself."""
        return write_script(
            path,
            f'case "$1 $2" in\n'
            f'  -c*) exec {sys.executable} -c "import sys; sys.version_info = {(*version, 0)}; $2" ;;\n'
            f"  --version*) echo Python {version[0]}.{version[1]}.0 ;;\n"
            f'  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;\n'
            f'  "-m pip") echo "$@" > pip-called ;;\n'
            "esac",
        )

    def test_the_newest_python_in_range_makes_it(self, folder: Path) -> None:
        self.python_script(folder / "bin/python3.13", version=(3, 14))
        self.python_script(folder / "bin/python3.12", version=(3, 12))
        self.python_script(folder / "bin/python3.11", version=(3, 11))
        done = self.run(folder)
        assert done.returncode == 0, done.stderr
        assert "Python 3.12.0" in done.stdout
        assert "requirements-dev.txt" in (folder / "pip-called").read_text()
        assert (folder / "venv/.installed").exists()

    def test_a_python_out_of_range_is_refused(self, folder: Path) -> None:
        chosen = self.python_script(folder / "bin/python-old", version=(3, 10))
        done = self.run(folder, PYTHON=str(chosen))
        assert done.returncode != 0
        assert "is not Python 3.11, 3.12 or 3.13" in done.stderr
        assert not (folder / "venv").exists()

    def test_no_python_in_range_says_what_to_do(self, folder: Path) -> None:
        for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
            self.python_script(folder / "bin" / name, version=(3, 9))
        done = self.run(folder)
        assert done.returncode != 0
        assert "make PYTHON=" in done.stderr
        assert not (folder / "venv").exists()

    def test_a_failed_installation_is_not_taken_for_done(self, folder: Path) -> None:
        python = self.python_script(folder / "bin/python3.12", version=(3, 12))
        python.write_text(python.read_text().replace("> pip-called", ">&2; exit 1"))
        done = self.run(folder, PYTHON=str(python))
        assert done.returncode != 0
        assert not (folder / "venv/.installed").exists()


def test_what_make_calls_is_executable() -> None:
    for name in ("toolchain/make-venv", ".ci/run"):
        assert os.access(pulumi_cli.PROJECT / name, os.X_OK), name
