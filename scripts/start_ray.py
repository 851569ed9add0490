"""A Ray cluster of two nodes with a slot each on this machine, for tests; every port is on the loopback address.

    python scripts/start_ray.py start FOLDER    starts it and says what to export, so that `--engine ray` finds it
    python scripts/start_ray.py stop FOLDER     stops what was started there

FOLDER is for Ray's own files; its path must be short, since Ray's sockets lie below it. `FOLDER/node-0.pid` and
`node-1.pid` have the number of each node's raylet, whose children are all else that the node runs. All processes of the
cluster are of one session, by which `stop` finds those that the others left behind.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

START_SECONDS = 300
STOP_SECONDS = 60
KILL_SECONDS = 20
MOST_CHARACTERS = 40  # of the folder: a socket's path has at most 107, and Ray's part of it some 65
RAY_LIMITS = {  # Ray's own waiting times, most of them 30 or 60 seconds, are too short for a machine that does more
    "RAY_raylet_start_wait_time_s": START_SECONDS,
    "RAY_gcs_server_port_wait_time_s": START_SECONDS,
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": START_SECONDS,
    "RAY_worker_register_timeout_seconds": START_SECONDS,
    "RAY_agent_register_timeout_ms": 1000 * START_SECONDS,
}
# A node dies whose agent has not written its ports to these files after 15 seconds, and no setting changes that
# (https://github.com/ray-project/ray/issues/65983); so they are there before. -1: it listens on none, nobody needs one.
AGENT_PORT_FILES = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
NO_PORT = "-1"


def name_environment(folder: Path) -> dict[str, str]:
    """What finds the cluster. `0` is Ray's word for one that keeps to the loopback address."""
    return {"RAY_TMPDIR": str(folder), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def start(folder: Path) -> int:
    """Start a process that holds the cluster, and wait until its nodes answer."""
    folder.mkdir(parents=True, exist_ok=True)
    stop(folder)
    with (folder / "cluster.log").open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, __file__, "hold", folder],
            env={
                **os.environ,
                **name_environment(folder),
                "RAY_USAGE_STATS_ENABLED": "0",
                **{name: str(limit) for name, limit in RAY_LIMITS.items()},
            },
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
    print("Ray did not start:", file=sys.stderr)
    for file in (folder / "cluster.log", *folder.glob("ray/session_latest/logs/*.err")):
        said = file.read_text("utf-8", "replace").splitlines()
        print(*(f"{file.name}: {line}" for line in said[:3] + said[3:][-20:]), sep="\n", file=sys.stderr)
    return 1


def hold(folder: Path) -> int:
    """The cluster, until SIGTERM. `ray start` puts no two nodes on the loopback address; Ray's own tests do this."""
    from ray.cluster_utils import Cluster

    session = folder / "ray" / f"session_{os.getpid()}"
    head = {**prepare_node(session), "session_name": session.name, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.head_node, cluster.add_node(**prepare_node(session))]
    cluster.wait_for_nodes(timeout=START_SECONDS)
    for number, node in enumerate(nodes):
        (folder / f"node-{number}.pid").write_text(str(node.all_processes["raylet"][0].process.pid))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        (folder / "ready").touch()
        while True:
            time.sleep(60)
    finally:
        cluster.shutdown()


def prepare_node(session: Path) -> dict[str, Any]:
    """What a node with a slot is started with. Its agents' ports stand in files, so that it waits for none."""
    node = secrets.token_hex(28)
    session.mkdir(parents=True, exist_ok=True)
    for name in AGENT_PORT_FILES:
        (session / f"{name}_{node}").write_text(NO_PORT)
    with socket.create_server(("127.0.0.1", 0)) as end:
        port = end.getsockname()[1]
    names = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": node}
    return {"num_cpus": 1, "wait": False, "env_vars": names, "runtime_env_agent_port": port}


def stop(folder: Path) -> int:
    """Tell the process that holds the cluster to end its nodes; kill what has not ended in time."""
    file = folder / "holder.pid"
    if not file.exists():
        return 0
    holder = int(file.read_text())
    with suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
    if not wait_for_end(holder, seconds=STOP_SECONDS):
        for process in list_processes(holder):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not wait_for_end(holder, seconds=KILL_SECONDS):
            print(f"processes of Ray that cannot be killed: {list_processes(holder)}", file=sys.stderr)
            return 1
    (folder / "ready").unlink(missing_ok=True)
    file.unlink()
    return 0


def wait_for_end(session: int, *, seconds: float) -> bool:
    """Whether no process of the session is left in time."""
    ends = time.monotonic() + seconds
    while list_processes(session):
        if time.monotonic() > ends:
            return False
        time.sleep(0.2)
    return True


def list_processes(session: int) -> list[int]:
    """Those that live: one that only waits for its parent to take notice has ended."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, own_session = file.read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
            if int(own_session) == session and state not in "ZX":
                found.append(int(file.parent.name))
    return found


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
