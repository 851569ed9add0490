"""A Ray cluster of two nodes with a slot each on this machine, for tests; every port is on the loopback address.

    python scripts/start_ray.py start FOLDER    starts it and says what to export, so that `--engine ray` finds it
    python scripts/start_ray.py stop FOLDER     stops what was started there

FOLDER is for Ray's own files; its path must be short, since Ray's sockets lie below it. `FOLDER/node-0.pid` and
`node-1.pid` have the number of each node's raylet, whose children are all else that the node runs.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

START_SECONDS = 120
STOP_SECONDS = 60
MOST_CHARACTERS = 40  # of the folder: a socket's path has at most 107, and Ray's part of it some 65


def name_environment(folder: Path) -> dict[str, str]:
    """What finds the cluster. `0` is Ray's word for one that keeps to the loopback address."""
    return {"RAY_TMPDIR": str(folder), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def start(folder: Path) -> int:
    """Start a process that holds the cluster, and wait until its nodes answer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ready").unlink(missing_ok=True)
    with (folder / "cluster.log").open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, __file__, "hold", folder],
            env={**os.environ, **name_environment(folder), "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "holder.pid").write_text(str(holder.pid))
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and holder.poll() is None:
        if (folder / "ready").exists():
            print("\n".join(f"export {name}={value}" for name, value in name_environment(folder).items()))
            return 0
        time.sleep(0.2)
    stop(folder)
    print(f"Ray did not start; see {folder / 'cluster.log'}", file=sys.stderr)
    return 1


def hold(folder: Path) -> int:
    """The cluster, until SIGTERM. `ray start` puts no two nodes on the loopback address; Ray's own tests do this."""
    from ray.cluster_utils import Cluster

    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes = [cluster.head_node, cluster.add_node(num_cpus=1)]
        for number, node in enumerate(nodes):
            (folder / f"node-{number}.pid").write_text(str(node.all_processes["raylet"][0].process.pid))
        (folder / "ready").touch()
        while not told:
            time.sleep(0.2)
    finally:
        cluster.shutdown()
        (folder / "ready").unlink(missing_ok=True)
    return 0


def stop(folder: Path) -> int:
    """Tell the process that holds the cluster to end its nodes; kill what has not ended in time."""
    file = folder / "holder.pid"
    if not file.exists():
        return 0
    holder = int(file.read_text())
    ends = time.monotonic() + STOP_SECONDS
    with suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
        while (folder / "ready").exists() and time.monotonic() < ends:
            os.kill(holder, 0)
            time.sleep(0.2)
    with suppress(ProcessLookupError):
        os.killpg(holder, signal.SIGKILL)
    file.unlink()
    return 0


def main() -> int:
    actions = {"start": start, "stop": stop, "hold": hold}
    if len(sys.argv) != 3 or sys.argv[1] not in actions:
        print(f"usage: {sys.argv[0]} start|stop FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[2]).absolute()
    if len(str(folder)) > MOST_CHARACTERS:
        print(f"{folder} is too long for Ray's sockets: name a folder of {MOST_CHARACTERS} letters", file=sys.stderr)
        return 2
    return actions[sys.argv[1]](folder)


if __name__ == "__main__":
    sys.exit(main())
