"""The rows that pass between stages: one JSON object a line, frozen, unknown keys refused.

Example   a real problem                    data/<split>.jsonl
Failure   what the student got wrong        round-NNN/failures.jsonl
Seed      what a recipe starts from         round-NNN/seeds.jsonl
Candidate what a recipe wrote               round-NNN/candidates.jsonl, curated.jsonl
Rejection a candidate a filter refused      round-NNN/rejected.jsonl
Row       what the student trains on        round-NNN/train.jsonl
Prediction what the student answered        round-NNN/eval/<split>.jsonl
Request, Completion   what an engine is asked and what it replies
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from synthloop.storable import StorableCount, StorableLogprob, StorableText


class Message(TypedDict):
    """One chat turn, as in the Hugging Face chat format."""

    role: str
    content: str


class Record(BaseModel):
    """Base of every row: frozen, extra keys refused."""

    # What is refused may hold a secret that a server sent; it is shown where it is known not to.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Example(Record):
    """A problem with its reference.

    `input` is the raw text a teacher may rewrite ("Tom has 3 apples ..."); `messages` is the prompt the student sees,
    rendered from it by the task. `completion` is the full text the student should write, `answer` the short value a
    scorer compares ("5"). `slice` names the group scores are broken down by.
    """

    id: str
    input: str
    messages: tuple[Message, ...]
    completion: str
    answer: str | None = None
    slice: str | None = None
    meta: dict[str, Any] = {}


class Score(Record):
    """What a task's scorer says of one reply. `parsed` is the answer found in it, None where there is none."""

    value: float
    correct: bool
    parsed: str | None = None
    reason: str | None = None


class Prediction(Record):
    """One reply of the student to a real example. `logprob` is the sum over completion tokens (nats).

    `error` is set where there is no reply to score: the student or its judge could not be asked, or no verdict of its
    judge could be read. Such a row counts in no score and in no comparison.
    """

    id: str
    slice: str | None
    response: str
    parsed: str | None
    value: float
    correct: bool
    truncated: bool
    prompt_tokens: int
    completion_tokens: int
    logprob: float | None = None
    error: str | None = None


class Failure(Record):
    """A real example the student got wrong. `split` is where it came from: 'probe', or 'train' in low-data mode."""

    id: str
    split: str
    example: Example
    response: str
    parsed: str | None
    truncated: bool


class Seed(Record):
    """What one conversation of a recipe starts from.

    `example` is the real example at hand, `response` the student's own wrong answer (None for a non-failure),
    `demonstrations` other real train examples. `depth` is the generation depth of the material (real = 0).
    """

    id: str
    recipe: str
    example: Example
    response: str | None = None
    demonstrations: tuple[Example, ...] = ()
    depth: int = 0


class Candidate(Record):
    """A synthetic sample, before or after curation.

    `votes` are the parsed answers of the k independent solutions (None where one did not parse); `gold` says that
    `answer` comes from real data and not from a vote. `depth` is 1 + the largest depth of what it was made from.
    `lineage` names the seed, recipe, and the journal key of every request behind it. `rejected` is a worse completion
    (preference pairs), `weight` scales the sample's loss, `scores` are those of recipe and filters by their names.
    """

    id: str
    round: int
    recipe: str
    seed_id: str
    input: str
    messages: tuple[Message, ...]
    completion: str
    answer: str | None
    gold: bool = False
    votes: tuple[str | None, ...] = ()
    slice: str | None = None
    depth: int = 1
    truncated: bool = False
    rejected: str | None = None
    weight: float = 1.0
    scores: dict[str, float] = {}
    lineage: dict[str, Any] = {}


class Decision(Record):
    """A filter's verdict on one candidate; `reason` is required when it is refused.

    `score` goes into the candidate's `scores` under the filter's name, `scores` under their own. `changes` are fields
    of the candidate that an enhancer replaces (a masked completion, a weight).
    """

    keep: bool
    reason: str | None = None
    score: float | None = None
    scores: dict[str, float] = {}
    changes: dict[str, Any] = {}


class Rejection(Record):
    """A refused candidate with the filter that refused it and why. A recipe's own refusals have `filter` 'recipe'."""

    filter: str
    reason: str
    candidate_id: str
    seed_id: str
    recipe: str
    score: float | None = None
    candidate: Candidate | None = None


class Review(Record):
    """A person's decision about one sample, kept or rejected by the filters (`synthloop review`).

    `completion` and `answer` are what the person wrote in place of the sample's, None where they left it as it is.
    """

    id: str
    round: int
    decision: Literal["keep", "reject"]
    note: str = ""
    completion: str | None = None
    answer: str | None = None

    @property
    def corrected(self) -> dict[str, str]:
        """The fields that the person wrote anew."""
        fields = {"completion": self.completion, "answer": self.answer}
        return {name: text for name, text in fields.items() if text is not None}

    def correct(self, candidate: Candidate) -> Candidate:
        """The sample with what the person wrote; what it had before is kept in its lineage."""
        if not self.corrected:
            return candidate
        before = {name: getattr(candidate, name) for name in self.corrected}
        lineage = {**candidate.lineage, "corrected": before}
        return candidate.model_copy(update={**self.corrected, "lineage": lineage})


class Row(Record):
    """One training row: a prompt, the completion the loss is on, where it came from and its size in tokens.

    `source` 'replay' is a row of an earlier skill (`mix.replay`). `num_tokens` counts prompt and completion;
    `completion_tokens` is known while the mix is made and not written.
    """

    id: str
    source: Literal["real", "synthetic", "replay"]
    messages: tuple[Message, ...]
    completion: str
    round: int = 0
    depth: int = 0
    slice: str | None = None
    num_tokens: int = 0
    completion_tokens: int = Field(default=0, exclude=True)
    rejected: str | None = None
    weight: float = 1.0

    @property
    def input(self) -> str:
        """The last turn of the prompt."""
        return self.messages[-1]["content"]


class Request(Record):
    """One thing asked of an engine.

    `sampling` holds vLLM `SamplingParams` names verbatim. `prompt_token_ids`, where given, replaces the rendering of
    `messages` (used to score given text). `sample_index` tells repeated asks apart. `id` names it within a run; the
    journal keys on the content, not on `id`.
    """

    id: str
    role: str
    messages: tuple[Message, ...] = ()
    sampling: dict[str, Any] = {}
    prompt_token_ids: tuple[int, ...] | None = None
    sample_index: int = 0


class Completion(Record):
    """One reply. `logprob` is the sum over the completion's tokens (nats), None where the engine does not tell.

    `prompt_logprobs` has one value a prompt token, the first None, and only where `sampling.prompt_logprobs` was set.
    `error` says why there is no reply, or holds a model's words where it refused and wrote no text.
    """

    request_id: str
    text: StorableText
    finish_reason: Literal["stop", "length", "error"]
    prompt_tokens: StorableCount
    completion_tokens: StorableCount
    logprob: StorableLogprob = None
    prompt_logprobs: tuple[StorableLogprob, ...] | None = None
    error: StorableText | None = None

    @property
    def truncated(self) -> bool:
        """Whether the reply hit `max_tokens` or the context before it ended."""
        return self.finish_reason == "length"

    @property
    def uncounted(self) -> bool:
        """Whether the engine did not say how many tokens the reply took."""
        none = self.prompt_tokens == 0 or (self.completion_tokens == 0 and self.text != "")
        return none and self.finish_reason != "error"
