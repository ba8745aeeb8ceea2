"""How fast and how thorough deduplication and decontamination are, beside two plain baselines.

    python -m scripts.bench_curate                                          10k, 50k and 200k rows
    python -m scripts.bench_curate --sizes 10000 --repeats 1                a look
    python -m scripts.bench_curate --contamination ../shared/data/gsm8k     what `decontaminate` catches, as a table

    dedup       ours: `similarity.distinct` at Jaccard 0.8 of word 3-grams, every match decided exactly
                rensa: its MinHash and LSH in Rust over `text.lower().split()`, as its documentation has it (128
                permutations, 16 bands), a shared band taken for a duplicate
    held out    ours: `decontaminate` with its defaults, problems only
                8-grams: a dict from the 8-grams of `text.lower().split()` to the held-out texts that have them; more
                than half of a row's in one of them is a copy

Rows are sentences put together at random, with fresh numbers: those of GSM8K where `--data` has it, else sentences of
made-up words; held-out texts are made of other sentences than rows. Among the rows stand 2,000 near-duplicates of
others (1 to 3 words changed, exact Jaccard index 0.8 or more) and 2,000 number-swapped copies of held-out texts. Each
size is a process of its own, so that its peak memory, taken before the baselines run, is its own. The arms take turns;
rows/s are by CPU time of one process, the steadier number. Recall is of the planted near-duplicates; precision is the
share of what an arm called duplicates whose exact index, on the arm's own words, with what it named reaches 0.8.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rensa import RMinHash, RMinHashLSH

from eval.tasks import gsm8k
from generate.curation import FilterContext
from generate.filters import decontaminate
from generate.filters.decontaminate import HeldOut
from synthloop.records import Candidate, Example
from synthloop.similarity import distinct, jaccard, ngrams, words
from synthloop.task import Task, open_task

THRESHOLD = 0.8
NUM_PLANTED = 2000
NUM_HELD_OUT = 1300

# For mechanical paraphrases: pairs that can be exchanged in most sentences of GSM8K without changing what is asked.
_PAIRS = """
    how_many=what_number_of how_much=what_amount_of in_total=altogether altogether=in_total more_than=in_excess_of
    has=owns have=own had=owned buys=purchases bought=purchased buy=purchase sells=vends sold=vended sell=vend
    gives=hands gave=handed each=every every=each total=overall all=every_one_of more=additional left=remaining
    makes=produces make=produce made=produced needs=requires need=require wants=wishes decides=chooses decided=chose
    gets=receives get=receive got=received cost=are_priced_at costs=is_priced_at money=cash price=charge
    number=count week=seven_days hours=hrs hour=hr minutes=mins minute=min people=persons children=kids
    kids=children students=pupils student=pupil friends=pals friend=pal house=home home=house store=shop shop=store
    school=academy if=supposing then=afterwards also=additionally but=yet when=once while=as twice=two_times
    half=50%_of takes=requires take=require pays=spends paid=spent spends=pays spent=paid earns=makes earn=make
    saved=put_by eats=consumes eat=consume ate=consumed big=large large=big small=little first=initial last=final
    only=just same=identical other=further average=mean times=fold during=over after=following before=prior_to
    works=labours per=for_each can=is_able_to will=is_going_to new=recent old=aged day=24_hours year=twelve_months
    day's=daily wins=gains goes=travels went=travelled started=began starts=begins finish=complete
    finished=completed
"""
SYNONYMS: dict[str, str] = dict(re.findall(r"(\S+)=(\S+)", _PAIRS))
_SYNONYM = re.compile(r"\b(" + "|".join(sorted(SYNONYMS, key=len, reverse=True)).replace("_", " ") + r")\b")


def paraphrase(text: str, rate: float, rng: random.Random) -> str:
    """Each word of `SYNONYMS` is exchanged with probability `rate`: meaning mostly kept, grammar not always."""

    def exchange(match: re.Match[str]) -> str:
        return SYNONYMS[match[0].replace(" ", "_")].replace("_", " ") if rng.random() < rate else match[0]

    return _SYNONYM.sub(exchange, text)


def change_words(text: str, count: int, rng: random.Random, vocabulary: Sequence[str]) -> str:
    parts = text.split(" ")
    for place in rng.sample(range(len(parts)), min(count, len(parts))):
        parts[place] = rng.choice(vocabulary)
    return " ".join(parts)


def swap_numbers(text: str, rng: random.Random) -> str:
    """Every number in digits becomes another of as many digits."""

    def other(match: re.Match[str]) -> str:
        low, high = 10 ** (len(match[0]) - 1), 10 ** len(match[0])
        return str(low + (int(match[0]) - low + rng.randrange(1, high - low)) % (high - low))

    return re.sub(r"\d+", other, text)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text.strip())


def reorder(text: str, rng: random.Random) -> str:
    """The sentences in another order; a text of one sentence as it is."""
    parts = sentences(text)
    order = list(range(len(parts)))
    while len(parts) > 1 and order == sorted(order):
        rng.shuffle(order)
    return " ".join(parts[place] for place in order)


class Caught(NamedTuple):
    """Of `num_texts`, how many were refused; and what share of the original's words stand in a copy, on average."""

    num_texts: int
    num_refused: int
    kept_words: float

    @property
    def rate(self) -> float:
        return self.num_refused / self.num_texts


class HeldOutRows(FilterContext):
    """What a filter is told of a run, when all there is are the rows of its test split."""

    def __init__(self, task: Task, rows: list[Example]) -> None:
        self.task = task
        self._rows = rows

    def real(self, split: str) -> list[Example]:
        return self._rows if split == "test" else []


def contamination(folder: Path, num_items: int = 200, num_train: int = 5000, seed: int = 0) -> dict[str, Caught]:
    """Copies of `num_items` GSM8K test problems, made in several ways, and real training rows: how many are refused.

    All 1,319 test rows are held out. A planted copy has an answer of its own, so that its problem must tell.
    """
    cfg = gsm8k.Config(path=folder)
    rng = random.Random(seed)
    test, train = list(gsm8k.load(cfg, "test")), list(gsm8k.load(cfg, "train"))
    items = [one.input for one in rng.sample(test, num_items)]
    vocabulary = sorted({word for one in train for word in one.input.split() if word.isalpha()})
    planted = {
        "exact": items,
        "one word changed": [change_words(text, 1, rng, vocabulary) for text in items],
        "sentences reordered": [reorder(text, rng) for text in items],
        "numbers swapped": [swap_numbers(text, rng) for text in items],
        "reordered and swapped": [reorder(swap_numbers(text, rng), rng) for text in items],
        "copy amid 100 other words": [_surround(text, rng, vocabulary) for text in items],
        "paraphrased: half of the synonyms": [paraphrase(text, 0.5, rng) for text in items],
        "paraphrased: every synonym": [paraphrase(text, 1.0, rng) for text in items],
        "paraphrased: every synonym, reordered": [reorder(paraphrase(text, 1.0, rng), rng) for text in items],
    }
    real = [(one.input, one.completion) for one in rng.sample(train, num_train)]
    arms = {name: [(text, "#### 5") for text in texts] for name, texts in planted.items()}
    ctx = HeldOutRows(open_task("gsm8k", {"path": folder}), test)
    caught = {}
    for name, rows in {**arms, "real training rows": real}.items():
        batch = [_candidate(number, *row) for number, row in enumerate(rows)]
        num_refused = sum(not one.keep for one in decontaminate.check(decontaminate.Config(), batch, ctx))
        kept_words = sum(_kept_words(*pair) for pair in zip(items, planted.get(name, ()), strict=False)) / len(items)
        caught[name] = Caught(len(rows), num_refused, kept_words if name in planted else 0.0)
    return caught


def _kept_words(original: str, copy: str) -> float:
    own = Counter(words(original))
    return (own & Counter(words(copy))).total() / own.total()


def _surround(text: str, rng: random.Random, vocabulary: Sequence[str]) -> str:
    return " ".join([*rng.choices(vocabulary, k=50), text, *rng.choices(vocabulary, k=50)])


def _candidate(number: int, problem: str, completion: str) -> Candidate:
    known = {"round": 1, "recipe": "bench", "seed_id": "", "messages": (), "answer": None}
    return Candidate(id=str(number), input=problem, completion=completion, **known)


def print_contamination(folder: Path) -> None:
    started = time.perf_counter()
    print(f"{'':40}{'n':>6}{'refused':>9}{'rate':>8}   words of the original that are left")
    for name, one in contamination(folder).items():
        left = f"{one.kept_words:.0%}" if one.kept_words else ""
        print(f"{name:40}{one.num_texts:6}{one.num_refused:9}{one.rate:8.2%}   {left}")
    print(f"{time.perf_counter() - started:.1f} s")


class Rows(NamedTuple):
    """`texts` to curate, and the positions of the near-duplicates and of the number-swapped copies among them."""

    texts: list[str]
    held_out: list[str]
    copies: range
    swapped: range


def make_rows(num_rows: int, data: Path | None, seed: int = 0) -> Rows:
    rng = random.Random(seed)
    if data:
        problems = [one.input for split in ("train", "test") for one in gsm8k.load(gsm8k.Config(path=data), split)]
        pool = [sentence for problem in problems for sentence in sentences(problem)]
    else:
        pool = made_up_sentences(25_000, rng)
    vocabulary = sorted({word for sentence in pool for word in sentence.split() if word.isalpha()})

    num_apart = len(pool) // 8

    def compose(parts: Sequence[str]) -> str:
        return swap_numbers(" ".join(rng.choices(parts, k=rng.randrange(2, 5))), rng)

    held_out = [compose(pool[-num_apart:]) for _ in range(NUM_HELD_OUT)]
    parts = pool[:-num_apart]
    first_swapped, first_copy = num_rows - 2 * NUM_PLANTED, num_rows - NUM_PLANTED
    texts = [compose(parts) for _ in range(first_swapped)]
    texts += [swap_numbers(rng.choice(held_out), rng) for _ in range(NUM_PLANTED)]
    while len(texts) < num_rows:
        original = texts[rng.randrange(first_swapped)]
        copy = change_words(original, rng.randrange(1, 4), rng, vocabulary)
        if THRESHOLD <= jaccard(ngrams(original, 3), ngrams(copy, 3)) < 1:
            texts.append(copy)
    return Rows(texts, held_out, range(first_copy, num_rows), range(first_swapped, first_copy))


def made_up_sentences(count: int, rng: random.Random) -> list[str]:
    """Of 6 to 18 words, drawn with Zipf frequencies from 5,000; one word in ten is a number."""
    letters = "aeioubdgklmnprst"
    vocabulary = ["".join(rng.choices(letters, k=rng.randrange(2, 9))) for _ in range(5000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    made = []
    for _ in range(count):
        drawn = rng.choices(vocabulary, weights, k=rng.randrange(6, 19))
        parts = [str(rng.randrange(2, 500)) if rng.random() < 0.1 else word for word in drawn]
        made.append(" ".join(parts).capitalize() + ".")
    return made


def split_ngrams(text: str, n: int) -> set[str]:
    parts = text.lower().split()
    return {" ".join(parts[i : i + n]) for i in range(max(1, len(parts) - n + 1))}


def dedup_ours(rows: Rows) -> list[int | None]:
    return [match.position if match else None for match in distinct([], rows.texts, THRESHOLD)]


def dedup_rensa(rows: Rows) -> list[int | None]:
    lsh = RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
    found: list[int | None] = []
    for position, text in enumerate(rows.texts):
        sketch = RMinHash(num_perm=128, seed=42)
        sketch.update(list(split_ngrams(text, 3)))
        others = lsh.query(sketch)
        found.append(min(others) if others else None)
        if not others:
            lsh.insert(position, sketch)
    return found


def held_out_ours(rows: Rows) -> list[bool]:
    index = HeldOut(decontaminate.Config(), [(str(number), text) for number, text in enumerate(rows.held_out)])
    return [not decision.keep for decision in index.check(rows.texts)]


def held_out_8grams(rows: Rows) -> list[bool]:
    holders = defaultdict(list)
    for number, text in enumerate(rows.held_out):
        for gram in split_ngrams(text, 8):
            holders[gram].append(number)
    refused = []
    for text in rows.texts:
        grams = split_ngrams(text, 8)
        shared = Counter(number for gram in grams for number in holders.get(gram, ()))
        refused.append(max(shared.values(), default=0) > len(grams) / 2)
    return refused


Arm = Callable[[Rows], list[Any]]
ARMS: dict[str, tuple[Arm, Arm]] = {
    "dedup: ours / rensa": (dedup_ours, dedup_rensa),
    "held out: ours / 8-grams": (held_out_ours, held_out_8grams),
}


def bench_size(num_rows: int, repeats: int, data: Path | None) -> None:
    rows = make_rows(num_rows, data)
    before_mb = peak_mb()
    results = {arm.__name__: arm(rows) for arm, _ in ARMS.values()}
    print(f"{num_rows:,} rows; peak memory {peak_mb():.0f} MB, of which {before_mb:.0f} before curation", flush=True)
    for title, (ours, baseline) in ARMS.items():
        seconds: dict[str, list[float]] = {ours.__name__: [], baseline.__name__: []}
        for repeat in range(repeats):
            for arm in (ours, baseline) if repeat % 2 else (baseline, ours):
                started = time.process_time()
                results[arm.__name__] = arm(rows)
                seconds[arm.__name__].append(time.process_time() - started)
        speeds = [[num_rows / one for one in times] for times in seconds.values()]
        ratios = [own / other for own, other in zip(*speeds, strict=True)]
        print(
            f"  {title:28}{statistics.median(speeds[0]):9.0f} /{statistics.median(speeds[1]):7.0f} rows/s, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    report_quality(rows, results)


def report_quality(rows: Rows, results: dict[str, list[Any]]) -> None:
    for name, grams in (("dedup_ours", ngrams), ("dedup_rensa", split_ngrams)):
        found = results[name]
        named = [(position, other) for position, other in enumerate(found) if other is not None]
        right = sum(jaccard(grams(rows.texts[a], 3), grams(rows.texts[b], 3)) >= THRESHOLD for a, b in named)
        recall = sum(found[copy] is not None for copy in rows.copies) / len(rows.copies)
        print(
            f"  {name:28}recall {recall:.4f} of {len(rows.copies)}, precision {right / len(named):.4f} of {len(named)}"
        )
    for name in ("held_out_ours", "held_out_8grams"):
        missed = sum(not results[name][place] for place in rows.swapped)
        others = sum(results[name]) - len(rows.swapped) + missed
        print(f"  {name:28}missed {missed} of {len(rows.swapped)} number-swapped copies, refused {others} other rows")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = parse_arguments()
    data = arguments.data if arguments.data and arguments.data.is_dir() else None
    if arguments.contamination:
        print_contamination(arguments.contamination)
    elif len(arguments.sizes) == 1:
        bench_size(arguments.sizes[0], arguments.repeats, data)
    else:
        print(f"sentences: {data or 'made up'}", flush=True)
        for size in arguments.sizes:
            options = ["--repeats", str(arguments.repeats), *(["--data", str(data)] if data else ["--no-data"])]
            subprocess.run([sys.executable, "-m", "scripts.bench_curate", "--sizes", str(size), *options], check=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gsm8k"), help="as published; if it exists")
    parser.add_argument("--no-data", dest="data", action="store_const", const=None, help="made-up sentences")
    parser.add_argument("--contamination", type=Path, metavar="DATA_DIR", help="print the table instead")
    return parser.parse_args()


if __name__ == "__main__":
    main()
