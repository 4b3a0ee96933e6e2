"""Content-named steps: planned, run in any order that their inputs allow, and found again."""
