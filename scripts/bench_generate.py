"""The generate stage's driver against a plain `LLM.generate`, on the same requests and the same loaded model.

    python scripts/bench_generate.py --model quickstart/teacher --num-requests 2000 --repeats 5

    plain    one `LLM.generate` call over the rendered prompts with ready SamplingParams: vLLM and nothing else
    driver   the driver: messages rendered and tokenised, requests streamed in, replies streamed out and journaled

Every request has its own seed. The arms take turns (A B, B A, ...) in one process, the prefix cache is emptied before
each, and the texts of both must be equal. Tokens per second are wall time; on a busy machine the ratio of CPU time is
the steadier number, so both are printed, each with its spread. Then the number of distinct texts is compared with that
under one seed for all.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from generate.context import Ask, Conversation, Reject
from generate.driver import drive
from generate.roles import Engines
from synthloop import chat
from synthloop.engines import Engine, identity, vllm_offline
from synthloop.journal import Journal, request_key
from synthloop.records import Message, Request

SAMPLES_PER_PROMPT = 4


class Measured(NamedTuple):
    """One arm, run once."""

    texts: list[str]
    num_tokens: int
    seconds: float
    cpu_seconds: float

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds


class OneEngine(Engines):
    """The driver's engines: one, and open already."""

    def __init__(self, engine: Engine) -> None:
        super().__init__([])
        self._engine = engine

    def is_ready(self, engine: str) -> bool:
        return True

    def get(self, engine: str) -> Engine:
        return self._engine


class Bench:
    """The model, loaded once, and the requests that both arms answer."""

    def __init__(self, cfg: vllm_offline.Config, num_requests: int, max_in_flight: int) -> None:
        self.cfg = cfg
        self.tokenizer = chat.load_tokenizer(cfg.model)
        self.engine = vllm_offline.open(cfg)
        self.requests = make_requests(num_requests)
        self.max_in_flight = max_in_flight

    def plain(self, requests: Sequence[Request]) -> Measured:
        """One call of `LLM.generate`; what it is given is made before the clock starts."""
        llm = self.engine.llm
        prompts = [chat.prompt_text(self.tokenizer, request.messages) for request in requests]
        params = [vllm_offline.sampling_params({**self.cfg.sampling, **request.sampling}) for request in requests]

        def run() -> tuple[list[str], int]:
            replies = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
            return [reply.text for reply in replies], sum(len(reply.token_ids) for reply in replies)

        return self._measure(run)

    def driver(self, requests: Sequence[Request]) -> Measured:
        """The same through the driver, into an empty journal on disk."""
        named = identity(self.cfg)

        def conversation(request: Request) -> Conversation:
            reply = yield Ask(request, "bench", self.cfg.model, request_key(named, request))
            return Reject(reply.completion.text)  # as good a place as any to keep the text

        def run() -> tuple[list[str], int]:
            with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite", "bench") as journal:
                outcomes, counts = drive(
                    map(conversation, requests), OneEngine(self.engine), journal, max_in_flight=self.max_in_flight
                )
            return [one.reason for one in outcomes if isinstance(one, Reject)], counts.completion_tokens

        return self._measure(run)

    def _measure(self, run: Callable[[], tuple[list[str], int]]) -> Measured:
        self.engine.llm.reset_prefix_cache()
        wall, cpu = time.perf_counter(), time.process_time()
        texts, num_tokens = run()
        return Measured(texts, num_tokens, time.perf_counter() - wall, time.process_time() - cpu)


def make_requests(count: int) -> list[Request]:
    """Word problems, each asked `SAMPLES_PER_PROMPT` times under seeds of their own."""
    rng = random.Random(0)
    prompts = [
        f"Tom has {rng.randrange(100)} apples and buys {rng.randrange(100)} more, then shares them among "
        f"{rng.randrange(2, 10)} friends. How many does each get?"
        for _ in range(-(-count // SAMPLES_PER_PROMPT))
    ]
    return [
        Request(
            id=str(i),
            role="teacher",
            messages=(Message(role="user", content=prompts[i // SAMPLES_PER_PROMPT]),),
            sampling={"seed": i},
            sample_index=i % SAMPLES_PER_PROMPT,
        )
        for i in range(count)
    ]


def main() -> None:
    arguments = parse_arguments()
    sampling = {"temperature": 1.0, "max_tokens": arguments.max_tokens}
    cfg = vllm_offline.Config(model=arguments.model, sampling=sampling)
    bench = Bench(cfg, arguments.num_requests, arguments.max_in_flight)
    for arm in (bench.plain, bench.driver):
        arm(bench.requests[:200])  # warm up
    pairs = [one_pair(bench, repeat) for repeat in range(arguments.repeats)]
    report(pairs)
    report_distinct(bench, pairs[0][1])
    bench.engine.close()


def one_pair(bench: Bench, repeat: int) -> tuple[Measured, Measured]:
    """(plain, driver) on the same requests, the order turned round at each repeat."""
    if repeat % 2:
        driven, plain = bench.driver(bench.requests), bench.plain(bench.requests)
    else:
        plain, driven = bench.plain(bench.requests), bench.driver(bench.requests)
    assert plain.num_tokens == driven.num_tokens, (plain.num_tokens, driven.num_tokens)
    assert plain.texts == driven.texts, "the two arms wrote different texts"
    print(
        f"repeat {repeat}: plain {plain.tokens_per_s:8.0f} tok/s ({plain.cpu_seconds:5.1f} CPU s)   "
        f"driver {driven.tokens_per_s:8.0f} tok/s ({driven.cpu_seconds:5.1f} CPU s)   "
        f"ratio {driven.tokens_per_s / plain.tokens_per_s:.3f}",
        flush=True,
    )
    return plain, driven


def report(pairs: Sequence[tuple[Measured, Measured]]) -> None:
    plain = pairs[0][0]
    print(f"{len(plain.texts)} requests, {plain.num_tokens} completion tokens, {len(pairs)} repeats; texts equal")
    wall = [driven.tokens_per_s / plain.tokens_per_s for plain, driven in pairs]
    cpu = [plain.cpu_seconds / driven.cpu_seconds for plain, driven in pairs]
    for name, ratios in (("tokens per second, driver / plain", wall), ("the same per CPU second", cpu)):
        print(f"{name}: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


def report_distinct(bench: Bench, own: Measured) -> None:
    """How many distinct replies to a prompt are left when all requests share one seed."""
    one_seed = [request.model_copy(update={"sampling": {"seed": 0}}) for request in bench.requests]
    shared = bench.driver(one_seed)
    total = len(bench.requests)

    def distinct(texts: Sequence[Any]) -> int:
        return len(
            {(request.messages[0]["content"], text) for request, text in zip(bench.requests, texts, strict=True)}
        )

    print(f"distinct (prompt, reply) of {total}: own seeds {distinct(own.texts)}, one seed {distinct(shared.texts)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="quickstart/teacher")
    parser.add_argument("--num-requests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--max-in-flight", type=int, default=1024, help="as generate.max_in_flight")
    return parser.parse_args()


if __name__ == "__main__":
    main()
