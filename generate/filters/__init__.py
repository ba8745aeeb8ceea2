"""Filters over candidates: one file each."""
