"""The gate: two models on the same probes, and whether the second may be shipped. Its outputs are what a CI reads."""
