"""Failures to verified candidates: seeds, recipes, filters."""
