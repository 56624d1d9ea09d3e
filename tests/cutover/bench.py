"""How long do writers wait? A cut-over and the way back under a client's load, at several sizes: `python -m tests.cutover.bench`.

Builds both databases once per size on an embedded server, lets a client write at 200 writes a second or more, and prints the
longest gap it saw between two acknowledged writes, what was refused, and whether a write was lost.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from sandbox.postgres import UNLOGGED_SPEED, Server
from tests.cutover.scene import Scene, build, writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 10_000_000])
    options = parser.parse_args()
    print(f"{'rows':>12} {'direction':<10} {'took s':>8} {'gap s':>7} {'waited s':>9} {'refused':>8} {'writes/s':>9} {'carried':>8}  lost")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="clarity-bench-") as folder:
            Path(folder).chmod(0o755)
            server = Server(Path(folder) / "server", settings={**UNLOGGED_SPEED, "shared_buffers": "512MB", "max_wal_size": "4GB"})
            server.start()
            try:
                _measure(_scene(server, Path(folder), rows), rows)
            finally:
                server.remove()


def _scene(server: Server, folder: Path, rows: int) -> Scene:
    with server.connect() as root:
        root.execute("CREATE ROLE bench LOGIN SUPERUSER PASSWORD 'bench'")
        root.execute("CREATE ROLE app LOGIN PASSWORD 'bench'")
        root.execute("CREATE DATABASE old")
        root.execute("CREATE DATABASE clarity")
    with server.connect("clarity") as root:
        root.execute("GRANT CREATE ON SCHEMA public TO app")
        root.execute("GRANT CREATE ON DATABASE clarity TO app")
    scene = build(server, source="old", target="clarity", admin="bench", password="bench", owner="app", folder=folder / "drizzle")
    fill = (
        "SET session_replication_role = replica; INSERT INTO public.audit (what)"
        f" SELECT 'what was done in step ' || g FROM generate_series(1, {rows}) AS g; ANALYZE"
    )
    for database in ("old", "clarity"):
        with server.connect(database) as root:
            root.execute(fill.encode())
            root.execute("VACUUM")
    return scene


def _measure(scene: Scene, rows: int) -> None:
    for direction in ("forward", "back"):
        with writing(scene) as writer:
            time.sleep(2)
            started = time.monotonic()
            evidence = scene.cut_over() if direction == "forward" else scene.go_back()
            took = time.monotonic() - started
            time.sleep(2)
            rate = len(writer.acknowledged) / (writer.acknowledged[-1] - writer.acknowledged[0])
        found = (scene.on_target if direction == "forward" else scene.on_source)(
            "SELECT place, title FROM public.requests WHERE place >= 100000"
        )
        lost = "none" if dict(found) == {key: text for key, text in writer.last.items() if text is not None} else "LOST"
        waited = evidence.get("waited_seconds")
        print(
            f"{rows:>12,} {direction:<10} {took:>8.1f} {writer.gap():>7.2f} {waited if waited is not None else '':>9}"
            f" {writer.refused:>8} {rate:>9.0f} {evidence['carried'] if direction == 'forward' else '':>8}  {lost}",
            flush=True,
        )


if __name__ == "__main__":
    main()
