"""The steps of experiments and commands, by name."""
