"""From a batch to the next weights: levels, averages, rates, precision, one process or many."""
