"""What a run keeps: its folder, its checkpoints and the numbers of every update."""
