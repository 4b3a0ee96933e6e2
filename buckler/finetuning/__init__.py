"""One training phase: rows to ids and weights, steps planned first, then divided among micro-batches and processes."""
