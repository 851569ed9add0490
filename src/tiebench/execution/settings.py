"""Where and how runs are executed; nothing here changes what a run is."""

from dataclasses import dataclass, field
from pathlib import Path

from tiebench.execution.engine_config import EngineConfig, LocalEngine
from tiebench.results.store import Store


@dataclass(frozen=True)
class Settings:
    """`num_threads` is for each run; None leaves torch's own number. With `wait`, a run that another process trains is
    waited for; without, it is an error. `track` names the trackers that follow the runs (tracking/following.py).
    `engine` says where they are executed (execution/engine_config.py).
    """

    store: Store
    device: str = "auto"
    data_dir: Path | None = None
    force: bool = False
    num_threads: int | None = None
    wait: bool = False
    track: tuple[str, ...] = ()
    engine: EngineConfig = field(default_factory=LocalEngine)
