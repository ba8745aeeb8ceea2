"""How a reply marks the label that is its answer: the patterns that `eval.scoring.choice` looks for in a line."""

from __future__ import annotations

import re

_IS = r"(?:is|(?:must|should|would|will|has\s+to|can\s+only)\s+be)"
_NOUN = (
    r"(?:answer|option|choice|label|verdict|sentiment|category|class|classification|prediction|conclusion|decision"
    r"|final|correct\s+one|right\s+one)"
)
BEFORE = re.compile(
    rf"(?:\b{_NOUN}(?:\s+{_IS}\b|\s*[:：]|\*+\s*[:：])|\\boxed\s*\{{"
    r"|(?:\b(?:I|we|let['’]s)(?:['’](?:d|ll|m|ve|re))?(?:\s+(?!not\b|never\b)\w+){0,2}?|^(?:(?:so|therefore|thus|hence),?)?)"
    r"\s*\b(?:choos(?:e|ing)|chose|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)?\s+(?:with|for))\b)[\s*:：]*",
    re.IGNORECASE,
)
"""What says that the label after it is the answer: `answer:`, `the correct option is`, `I choose`, `\\boxed{`."""

AFTER = re.compile(
    rf"[])}}*_`'\"”’$]*\s+{_IS}\s+(?:(?:the|only|clearly|therefore|thus|indeed|best|most)\s+)*(?:correct|right|answer)\b",
    re.IGNORECASE,
)
"""What says so of the label before it: `is correct`."""

SUPPOSED = re.compile(r"\b(?:if|whether|unless|suppose|assume)\b[^.,;:!?]*$", re.IGNORECASE)
"""What stands before a mark in the same clause where nothing is concluded: `if A is right`."""
