"""Tasks: real examples and their scorer, one file each."""
