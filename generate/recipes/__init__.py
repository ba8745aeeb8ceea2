"""Generation recipes: one file each, a conversation written as a Python generator."""
