"""Experiments: a recipe as a plan of steps, its results as typed models, and what a report says of them; one folder a kind."""
