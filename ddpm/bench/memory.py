"""The most memory that a call holds at once beyond what was there before it."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ddpm.bench.contender import Call


def peak_bytes(call: Call, device: torch.device) -> int:
    """Bytes held at most during a call, its results included.

    Args:
        call: What to run, once.
        device: Where it works.
    """
    return _on_gpu(call, device) if device.type == "cuda" else _on_cpu(call)


def _on_gpu(call: Call, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(call: Call) -> int:
    # The profiler's library announces itself on stderr at each start unless told not to.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    del kept
    return highest(events)


def highest(events: Iterable[dict[str, Any]]) -> int:
    """Highest sum of the allocations in a trace, from 0.

    Args:
        events: Of the trace; those named "[memory]" have a time and a change in bytes.
    """
    changes = sorted(
        (event["ts"], event["args"]["Ev Idx"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]" and event["args"]["Device Type"] == 0
    )
    held = most = 0
    for *_, change in changes:
        held += change
        most = max(most, held)
    return most
