"""Command line of this package; see `benchmarks.sampler_orders`."""

import argparse
import json
from pathlib import Path

import torch

from benchmarks.sampler_orders.figure import draw
from benchmarks.sampler_orders.measure import Results, everything
from benchmarks.sampler_orders.page import markdown


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampler_orders", description="Measure orders of all samplers."
    )
    parser.add_argument("--out", type=Path, required=True, help="page; .json and .png beside it")
    parser.add_argument(
        "--read", type=Path, help="write page and figure from this .json, and measure nothing"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.read is None:
        results: Results = everything(lambda line: print(line, flush=True))
        asked.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    else:
        results = json.loads(asked.read.read_text())
    picture = asked.out.with_suffix(".png")
    draw(results, picture)
    asked.out.with_suffix(".md").write_text(markdown(results, picture.name))


if __name__ == "__main__":
    main()
