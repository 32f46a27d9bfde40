"""The command line's surface, frozen: a script that works today works tomorrow."""

import inspect

from ddpm import cli

SURFACE = {
    "train": {
        "run", "data", "steps", "minutes", "resume", "seed", "batch_size", "learning_rate",
        "prediction", "schedule", "levels", "beta_start", "beta_end", "channels", "dropout",
        "device", "threads", "checkpoint_every", "decay", "ema", "skip_broken", "precision",
        "compile_network", "channels_last", "checkpoint_activations", "accumulation", "parallel",
        "ranks", "workers", "stream", "sample_every", "tracker", "preset", "process", "variance",
        "objective", "weighting", "bound_rate", "level_sampling", "zero_terminal_snr", "prior",
        "transition", "auxiliary", "conditional", "label_dropout", "network", "multipliers",
        "blocks", "attention", "patch", "width", "depth", "heads", "hidden", "latent",
        "warmup", "weight_decay", "fourier",
    },
    "sample": {
        "run", "num", "seed", "sampler", "steps", "eta", "out", "device", "ema", "shard_size",
        "image_format", "ranks", "label", "guidance", "spacing", "levels", "variance", "sde",
        "ilvr", "ilvr_factor", "trajectory",
    },
    "samplers": set(),
    "eval": {
        "run", "num", "seed", "max_images", "device", "ema", "samples", "features", "likelihood",
    },
    "report": {"run", "out"},
    "verify": {"ids", "paper", "as_json", "html", "accuracy", "seed", "examples", "jobs"},
    "figures": {"out"},
    "bench": {
        "only", "static", "as_json", "out", "markdown", "rounds", "compile_too", "device",
        "threads", "processor_time", "training", "data",
    },
}  # fmt: skip


def test_commands_and_options() -> None:
    commands = {c.name or c.callback.__name__: c.callback for c in cli.app.registered_commands
                if c.callback}  # fmt: skip
    found = {name: set(inspect.signature(f).parameters) for name, f in commands.items()}
    assert found == SURFACE
