"""How good a model is: likelihood, baselines to beat, and the quality of its samples."""
