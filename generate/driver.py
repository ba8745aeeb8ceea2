"""The driver: thousands of conversations in flight over engines that never drain.

Replies go to the journal as they come, one transaction for each poll. After a crash the conversations run again from
their start and the journal answers what was asked before, so that nothing is asked twice and no recipe knows.

The outcome of a conversation depends on its replies alone, and outcomes are given in the order of the conversations;
the order in which an engine finishes its requests, and how many were in flight, leave no trace.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from generate.asking import unread
from generate.context import Ask, Conversation, Outcome, Reject, Reply
from generate.roles import Engines
from synthloop.errors import StageFailed
from synthloop.guided import END_OF_THINKING, is_guided
from synthloop.journal import Journal
from synthloop.records import Completion, Request
from synthloop.refusals import NUM_FIRST, Refusals

log = logging.getLogger("synthloop.generate")


@dataclass
class Counts:
    """What a drive cost. All but `asked` and `journal_hits` are the same for a run that was killed and resumed.

    `requests` counts distinct ones; equal requests share one reply. `thinking` counts replies that hold a model's
    thinking, `uncounted` those whose tokens the server did not count, `guided` those that were to be JSON, `unread`
    those of them that are not what was asked for. `errors` and `asked` count what this process saw, `journal_hits`
    what earlier ones had paid for. `by_conversation` has the tokens, prompts and completions, of each conversation in
    order; a reply that several share counts in each.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: int = 0
    thinking: int = 0
    uncounted: int = 0
    guided: int = 0
    unread: int = 0
    errors: int = 0
    asked: int = 0
    journal_hits: int = 0
    by_conversation: list[int] = field(default_factory=list)

    def add(self, ask: Ask, reply: Completion, *, is_unread: bool, journaled: bool) -> None:
        """Count the reply to `ask`; `is_unread` where it is not the JSON asked for."""
        self.requests += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.truncated += reply.truncated
        self.thinking += END_OF_THINKING in reply.text
        self.errors += reply.finish_reason == "error"
        self.asked += not journaled
        self.journal_hits += journaled
        self.uncounted += reply.uncounted
        self.guided += is_guided(ask.request.sampling) and reply.finish_reason != "error"
        self.unread += is_unread

    def as_dict(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if name != "by_conversation"}


def drive(
    conversations: Iterable[Conversation],
    engines: Engines,
    journal: Journal,
    *,
    refusals: Refusals | None = None,
    max_in_flight: int = 1024,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Outcome], Counts]:
    """Run every conversation to its end; outcomes in their order, and what it cost.

    A conversation one of whose requests an engine could not serve is rejected with 'engine error: ...'. An exception
    in a conversation is a bug of the recipe and is raised; what was answered until then is in the journal.

    Args:
        refusals: what counts the requests that were not served; none makes the drive fail by default.
        max_in_flight: requests that wait in the engines at any time, at most.
        on_progress: called with the number of finished conversations.

    Raises:
        StageFailed: more requests were not served than `refusals` allows, or of many guided replies none can be read.
    """
    return _Drive(conversations, engines, journal, refusals or Refusals(), max_in_flight, on_progress).run()


ENGINE_ERROR = "engine error"
"""The kind of a rejection that says nothing of the sample: a request of its conversation was not served."""

_NOTHING = Reject("nothing: the recipe returned neither a candidate nor ctx.reject(...)")


class _Talk:
    """A conversation under way: what it asked last, the replies so far, and its outcome once it has one."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.asks: list[Ask] = []
        self.single = False
        self.replies: dict[str, Completion] = {}
        self.outcome: Outcome | None = None
        self.tokens = 0

    @property
    def missing(self) -> list[Ask]:
        return [ask for ask in self.asks if ask.key not in self.replies]

    def advance(self) -> None:
        """Send the replies in (none, to start it) and take down what is asked next, or how it ended."""
        replies = [Reply(self.replies[ask.key], ask.num_given) for ask in self.asks]
        value: Any = (replies[0] if self.single else replies) if replies else None
        try:
            asked = self.conversation.send(value)
        except StopIteration as end:
            self.outcome = end.value if end.value is not None else _NOTHING
            return
        self.single = isinstance(asked, Ask)
        self.asks = [asked] if isinstance(asked, Ask) else list(asked)
        assert self.asks, "a recipe yielded an empty list"
        self.replies = {}

    def take(self, key: str, reply: Completion) -> None:
        """Take the reply to one of the requests; one that failed ends the conversation."""
        if self.outcome is None and reply.finish_reason == "error":
            self.conversation.close()
            self.outcome = Reject(f"{ENGINE_ERROR}: {reply.error}")
        self.replies[key] = reply
        self.tokens += reply.prompt_tokens + reply.completion_tokens


class _Drive:
    """The state of one `drive`."""

    def __init__(
        self,
        conversations: Iterable[Conversation],
        engines: Engines,
        journal: Journal,
        refusals: Refusals,
        max_in_flight: int,
        on_progress: Callable[[int], None],
    ) -> None:
        self._fresh: Iterator[Conversation] | None = iter(conversations)
        self._engines = engines
        self._journal = journal
        self._refusals = refusals
        self._max_in_flight = max_in_flight
        self._on_progress = on_progress
        self._counts = Counts()
        self._talks: list[_Talk] = []
        self._num_done = 0
        # Who waits for the reply to a request that is in flight or about to be, by its key.
        self._waiting: dict[str, list[_Talk]] = {}
        self._counted: set[str] = set()
        # Guided replies that could not be read; journaled at the end, for they are asked for anew if the stage fails.
        self._held: list[tuple[str, str, Request, Completion]] = []
        # What is amiss with the guided replies that could not be read, by whether they were cut off.
        self._unread: dict[bool, list[str]] = {}
        self._ready: dict[str, deque[Ask]] = defaultdict(deque)
        self._in_flight: dict[str, dict[str, Ask]] = defaultdict(dict)

    def run(self) -> tuple[list[Outcome], Counts]:
        while True:
            self._fill()
            busy = [engine for engine, asks in self._in_flight.items() if asks]
            if not busy and not any(self._ready.values()):
                break
            if not busy:
                self._swap()
            for engine in busy:
                self._collect(engine)
        self._refusals.check()
        outcomes = [talk.outcome for talk in self._talks if talk.outcome is not None]
        assert len(outcomes) == len(self._talks), "a conversation was left waiting"
        self._tell_unread()
        self._journal.put(self._held)
        if self._counts.thinking:
            log.warning(
                "%d of %d replies hold %s: the model's thinking is part of what is made from them. Set "
                "`chat_template_kwargs: {enable_thinking: false}` in its role, or name a model that does not think.",
                *(self._counts.thinking, self._counts.requests, END_OF_THINKING),
            )
        self._counts.by_conversation = [talk.tokens for talk in self._talks]
        return outcomes, self._counts

    def _tell_unread(self) -> None:
        """A warning where guided replies could not be read. Raises `StageFailed` where none could."""
        if not self._counts.unread:
            return
        kinds = {
            True: "cut off (raise max_tokens in the sampling of the role)",
            False: "not what was asked for",
        }
        told = "; ".join(f"{len(many)} {kinds[kind]}, the first: {many[0]}" for kind, many in self._unread.items())
        message = f"{self._counts.unread} of {self._counts.guided} replies that were to be JSON cannot be used: {told}."
        if self._counts.unread == self._counts.guided >= NUM_FIRST:
            raise StageFailed(
                f"{message}\nNothing comes of that. They are not recorded: once the cause is mended, the same command "
                "asks these again."
            )
        log.warning("%s", message)

    def _fill(self) -> None:
        """Submit what waits for an engine that can be asked now, then start new conversations, up to the limit."""
        while sum(map(len, self._in_flight.values())) < self._max_in_flight:
            engine = next((one for one, asks in self._ready.items() if asks and self._engines.is_ready(one)), None)
            if engine is not None:
                self._submit(engine, self._ready[engine].popleft())
            elif not self._start():
                break

    def _start(self) -> bool:
        """Start the next conversation; False when all have been."""
        conversation = next(self._fresh, None) if self._fresh else None
        if conversation is None:
            self._fresh = None
            return False
        talk = _Talk(conversation)
        self._talks.append(talk)
        self._advance(talk)
        return True

    def _advance(self, talk: _Talk) -> None:
        """Advance `talk` for as long as the journal answers all it asks; let it wait for what the journal does not."""
        while talk.outcome is None and not talk.missing:
            talk.advance()
            for ask in talk.asks if talk.outcome is None else []:
                if (reply := self._journal.get(ask.key)) is not None:
                    self._count(ask, reply, unread(ask, reply), journaled=True)
                    talk.take(ask.key, reply)
        if talk.outcome is not None:
            self._num_done += 1
            self._on_progress(self._num_done)
            return
        for ask in talk.missing:
            # A request that is on its way already, for this or another conversation, is not made again.
            if ask.key not in self._waiting:
                self._waiting[ask.key] = []
                self._ready[ask.engine].append(ask)
            if talk not in self._waiting[ask.key]:
                self._waiting[ask.key].append(talk)

    def _submit(self, engine: str, ask: Ask) -> None:
        # The key is the id an engine sees: distinct among those in flight, whatever ids the recipes gave.
        self._engines.get(engine).submit(ask.request.model_copy(update={"id": ask.key}))
        self._in_flight[engine][ask.key] = ask
        self._refusals.submitted(ask.key)

    def _swap(self) -> None:
        """Nothing is in flight and all that waits is for engines that are not loaded: load the one most waited for."""
        self._engines.get(max(self._ready, key=lambda engine: len(self._ready[engine])))

    def _collect(self, engine: str) -> None:
        """Take what `engine` has finished: into the journal first, then to the conversations."""
        replies = self._engines.get(engine).poll()
        asks = self._in_flight[engine]
        assert replies, f"the engine lost {len(asks)} requests"
        finished = [(asks.pop(reply.request_id), reply) for reply in replies]
        why = {ask.key: unread(ask, reply) for ask, reply in finished}
        named = [(ask, reply.model_copy(update={"request_id": ask.request.id})) for ask, reply in finished]
        served = [(ask.key, ask.model, ask.request, reply) for ask, reply in named if reply.finish_reason != "error"]
        self._journal.put(one for one in served if why[one[0]] is None)
        self._held += [one for one in served if why[one[0]] is not None]
        for ask, reply in named:
            self._count(ask, reply, why[ask.key], journaled=False)
            for talk in self._waiting.pop(ask.key):
                over = talk.outcome is not None
                talk.take(ask.key, reply)
                if not over and (talk.outcome is not None or not talk.missing):
                    self._advance(talk)

    def _count(self, ask: Ask, reply: Completion, why: str | None, *, journaled: bool) -> None:
        """Count a reply once; `why` it cannot be read, None where it can."""
        if ask.key not in self._counted:
            self._counted.add(ask.key)
            self._counts.add(ask, reply, is_unread=why is not None, journaled=journaled)
            if why is not None:
                self._unread.setdefault(reply.truncated, []).append(f"{ask.request.role}: the reply {why}")
            self._refusals.add(ask.key, ask.request.role, reply)
