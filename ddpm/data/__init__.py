"""Images to learn from: `ddpm.data.load` opens them, `ddpm.data.batches` hands them to training."""
