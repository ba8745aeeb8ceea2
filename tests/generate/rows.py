"""Rows that the tests of generate/ start from."""

from __future__ import annotations

from typing import Any

from synthloop.records import Candidate, Example, Message, Seed


def example(number: int = 0, **changes: Any) -> Example:
    input = changes.pop("input", f"Tom has {number} apples and buys 4 more. How many apples does he have now?")
    values: dict[str, Any] = {
        "id": f"real-{number}",
        "input": input,
        "messages": (Message(role="user", content=input),),
        "completion": f"{number}+4={number + 4}\n#### {number + 4}",
        "answer": str(number + 4),
        "slice": "total",
    }
    return Example(**{**values, **changes})


def seed(number: int = 0, **changes: Any) -> Seed:
    values: dict[str, Any] = {
        "id": f"repair-{number:05d}",
        "recipe": "repair",
        "example": example(number),
        "response": "#### 99",
        "demonstrations": (example(100), example(101)),
    }
    return Seed(**{**values, **changes})


def candidate(number: int = 0, **changes: Any) -> Candidate:
    input = changes.pop("input", f"Mia owns {number} kites, twice as many as her brother flies. How many has he?")
    values: dict[str, Any] = {
        "id": f"r001-repair-{number:05d}",
        "round": 1,
        "recipe": "repair",
        "seed_id": f"repair-{number:05d}",
        "input": input,
        "messages": (Message(role="user", content=input),),
        "completion": "#### 5",
        "answer": "5",
        "votes": ("5", "5", "5", "4"),
        "slice": "total",
    }
    return Candidate(**{**values, **changes})
