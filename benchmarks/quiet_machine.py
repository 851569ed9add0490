"""Whether the machine is quiet enough to measure time on, and which processor it has.

Other work is what all cores did that this process and its children did not, from /proc/stat; on a system without that
file it is not known.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

MOST_OTHER_WORK = 0.05
LOOK_SECONDS = 3.0
UNITS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")
"""Of a processor's flags, those that decide how fast it multiplies matrices."""
MODEL = {"family": "cpu family", "model": "model", "stepping": "stepping"}
Reading = tuple[float, float]


def read_other_work() -> Reading | None:
    """Seconds of all cores in which this machine worked for others, and in all; None where the kernel does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    seconds = [int(field) / os.sysconf("SC_CLK_TCK") for field in stat.read_text("ascii").split("\n")[0].split()[1:9]]
    user, nice, system, _idle, _waiting, *rest = seconds
    own = os.times()
    own_seconds = own.user + own.system + own.children_user + own.children_system
    return user + nice + system + sum(rest) - own_seconds, sum(seconds)


def measure_other_work(before: Reading | None) -> float | None:
    """The share of the machine that others took since `before`."""
    now = read_other_work()
    if before is None or now is None:
        return None
    busy, total = now[0] - before[0], now[1] - before[1]
    return max(0.0, busy / total) if total else 0.0


def look_at_machine(seconds: float = LOOK_SECONDS) -> float | None:
    """The share of the machine that others take while this process waits for `seconds`."""
    before = read_other_work()
    time.sleep(seconds)
    return measure_other_work(before)


def check_quiet(share: float | None, *, busy: bool) -> dict[str, Any]:
    """What a page has to say about other work at the start: its share, `other_work`, and whether `busy` was given.

    Raises SystemExit where other work takes more than 5 % of the machine or is not known, unless `busy` is given.
    """
    if busy or (share is not None and share <= MOST_OTHER_WORK):
        return {"other_work": share, "busy": busy}
    found = "how busy this machine is cannot be told" if share is None else f"other work takes {share:.0%} of it"
    raise SystemExit(
        f"this machine is not known to be quiet: {found}, and at most {MOST_OTHER_WORK:.0%} is allowed\n"
        "hint: wait or end the other work; or say that you know, and the page will say so: --busy"
    )


def describe_start(start: dict[str, Any]) -> str:
    """A sentence for the page where the machine was known to be busy; nothing where it was quiet."""
    if not start.get("busy"):
        return ""
    share = start["other_work"]
    how_busy = "" if share is None else f" ({share:.0%} of the machine at the start)"
    return f" **It was measured beside other work{how_busy}: on a quiet machine the rates are higher.**"


def describe_processor(text: str | None = None) -> dict[str, Any]:
    """Family, model and stepping of the processor and its units for matrices, from /proc/cpuinfo or such a text."""
    file = Path("/proc/cpuinfo")
    text = file.read_text("utf-8") if text is None and file.exists() else text or ""
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    model = [f"{name} {facts[key]}" for name, key in MODEL.items() if key in facts]
    return {"model": ", ".join(model) or platform.machine(), "flags": [name for name in UNITS if name in flags]}


def name_processor(setting: dict[str, Any]) -> str:
    """What results are kept under: the GPU, or the processor with its model, and the number of threads."""
    hardware = setting["hardware"]
    if "gpu" in hardware:
        return hardware["gpu"]
    parts = [hardware["cpu"], setting.get("processor", {}).get("model"), f"{hardware['threads']} threads"]
    return ", ".join(part for part in parts if part)


if __name__ == "__main__":
    share = look_at_machine()
    print(describe_processor(), share)
    sys.exit(0 if share is not None and share <= MOST_OTHER_WORK else 3)
