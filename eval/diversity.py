"""How varied texts are, at a fixed budget of words, so that neither more text, nor longer texts, nor more of them look
more or less varied.

    real = reference(texts of people)
    profile(sample(texts of a model, budget=256), real)  ->  {"entropy": 4.2, "distinct_2": 0.8, ...}

| measure            | what                                                                        | in a collapse |
|--------------------|-----------------------------------------------------------------------------|---------------|
| entropy            | unigram entropy in nats                                                     | falls         |
| distinct_2         | share of distinct word pairs                                                | falls         |
| compression_ratio  | bytes before over after zlib (Shaib et al. 2024, arXiv:2403.00553)          | rises         |
| js_to_real         | Jensen-Shannon divergence (bits) from real words and word pairs, their mean | rises         |
| rare_type_coverage | rare real words met, over how many real text of that length would hold      | falls         |
| vendi              | effective number of texts (Friedman and Dieng 2023, arXiv:2210.02410)       | falls         |

Words are runs of letters and digits, or single other marks, case kept: 'It costs $5.' has five. In scripts without
spaces each letter is one. Markup and the numbers of lists and steps are form, and no words.

| the budget is of     | by                                                                                           |
|----------------------|----------------------------------------------------------------------------------------------|
| texts                | `budget / words_per_text` of them, evenly spaced; Vendi reads the first `MAX_VENDI_TEXTS`    |
| words of a text      | Vendi, compression and divergence read as many of each text, at each of `PLACES`: their mean |
| words of all of them | entropy, distinct pairs and rare words are the exact expectation over all subsamples of      |
|                      | `budget` items without replacement (rarefaction): nothing is random and every item counts    |

What several texts open or end with is left out, a quarter of a text at each end at most: a fixed greeting is no loss.
So none of them depends on the length or the number of texts that are alike wherever they are cut (rarefaction but for
words that recur within a text: by far less than a margin a round). Where there is less than the budget all of it is
used, and `Sample.is_reached` is false: compare only values of equal budget.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from synthloop.characters import in_word, sets_no_spaces

Floats = NDArray[np.float64]
T = TypeVar("T", bound=Hashable)

RARE_SHARE = 0.1
"""Rare types are the least frequent ones that together are at most this share of real text (chosen, not measured)."""

MAX_VENDI_TEXTS = 256
"""The cost grows with the cube; 256 texts take some 20 ms."""

PLACES = (0.25, 0.5, 0.75)
"""Where in a text words are cut out, as shares of its length (chosen)."""

_WORD = re.compile(r"\w+|[^\w\s]")
_PLAIN = re.compile(r"[\x00-\u02ff\u0370-\u0482\u048a-\u0590\u1e00-\u20cf\u2100-\u2bff]*")
"""Characters of scripts with spaces, and none that is a mark on another one."""
_MARK = r"(?:#{1,6}|>|[-*+•])[ \t]+"
_LABEL = r"[*_]{0,3}(?:[^\W\d_]+[ \t]*)?\d+[^\W\d_]?(?:[.):][*_]{0,3}(?=[ \t]+\S)|[：、])"
_FORM = re.compile(
    r"^[ \t|:*_=-]{3,}$|^[ \t]*(?:```|~~~).*$"  # rules, also of tables; fences of code
    rf"|^[ \t]*(?:(?:{_MARK})+(?:{_LABEL})?|{_LABEL})"  # headings, quotes, bullets; 1.  2)  Step 3:  **4.**  第5步：
    r"|(?<![\w*])[*_]{1,3}(?=\w)|(?<=[\w.,:;!?)])[*_]{1,3}(?![\w*])"  # emphasis
    r"|`|(?<!\S)\|(?!\S)",  # code, cells of tables
    re.MULTILINE,
)
"""Markup and the numbers of lists and steps: how a text is laid out, and not what it says."""


def words(text: str) -> list[str]:
    plain = _FORM.sub(" ", text)
    return _WORD.findall(plain) if _PLAIN.fullmatch(plain) else _words_of_any_script(plain)


def _words_of_any_script(text: str) -> list[str]:
    """As `words`. Marks (vowel signs, accents) belong to their letters."""
    found: list[str] = []
    before = " "
    for one in text:
        is_mark = unicodedata.category(one)[0] == "M"
        if in_word(before) and in_word(one) and (is_mark or not (sets_no_spaces(before) or sets_no_spaces(one))):
            found[-1] += one
        elif not one.isspace():
            found.append(one)
        before = one
    return found


def unigram_entropy(items: Iterable[Hashable], budget: int) -> float | None:
    """The expected plug-in Shannon entropy (nats) of `budget` of `items`; None where there are none.

    Chao et al. 2014, Ecological Monographs 84:45, rarefaction of order q = 1: -sum_k k/m ln(k/m) E[f_k(m)].
    """
    counts, total, size = _sizes(items, budget)
    if not total:
        return None
    mean = 0.0
    # Items that occur equally often share one hypergeometric distribution.
    for count, many in counts.items():
        k: Floats = np.arange(1, min(count, size) + 1, dtype=float)
        mean -= many * float((k / size * np.log(k / size)) @ _hypergeometric(k, total, count, size))
    return mean


def distinct_share(items: Iterable[Hashable], budget: int) -> float | None:
    """The expected share of distinct items among `budget` of `items` (distinct-n: Li et al. 2016, arXiv:1510.03055).

    Hurlbert 1971, Ecology 52:577: E[S_m] = sum_i 1 - C(N - n_i, m) / C(N, m). None where there are no items.
    """
    counts, total, size = _sizes(items, budget)
    return _num_met(counts, total, size) / size if total else None


def _num_met(counts: Mapping[int, int], total: int, size: int) -> float:
    """How many types are expected in a subsample of `size` of `total` items. `counts`: types that occur that often."""
    if not counts:
        return 0.0
    occurrences, many = (np.array(list(column)) for column in (counts.keys(), counts.values()))
    return float(many @ (1 - _hypergeometric(np.zeros(len(many)), total, occurrences, size)))


def _hypergeometric(k: Floats, total: int, count: int | Floats, size: int) -> Floats:
    """The chance that `size` of `total` items hold k of `count` marked ones. SciPy's own takes 50 times as long."""
    probability: Floats = np.exp(
        _log_binomial(count, k) + _log_binomial(total - count, size - k) - _log_binomial(total, size)
    )
    return probability


def _log_binomial(n: int | Floats, k: int | Floats) -> Floats:
    """ln C(n, k); minus infinity where k > n."""
    from scipy.special import gammaln

    logarithm: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return logarithm


def _sizes(items: Iterable[Hashable], budget: int) -> tuple[Counter[int], int, int]:
    """(how many types occur that often, all items, size of the subsample)."""
    types = Counter(items)
    total = types.total()
    return Counter(types.values()), total, min(budget, total)


@dataclass(frozen=True)
class Sample:
    """Texts as words, to be looked at up to a budget of words, `words_per_text` of each where they are long enough."""

    texts: list[list[str]]
    budget: int
    words_per_text: int = 4

    @property
    def num_words(self) -> int:
        return sum(map(len, self.texts))

    @property
    def is_reached(self) -> bool:
        """Whether there are as many texts and words as the budget asks for."""
        return self.num_words >= self.budget and len(self.texts) >= self.budget // self.words_per_text

    def words(self) -> Iterable[str]:
        return itertools.chain.from_iterable(self.texts)

    def pairs(self) -> Iterable[tuple[str, str]]:
        """Adjacent word pairs within one text."""
        return itertools.chain.from_iterable(map(itertools.pairwise, self.texts))

    def drawn(self) -> Sample:
        """As many of the texts as the budget asks for, evenly spaced; more where those hold too few words."""
        total, count = len(self.texts), max(1, self.budget // self.words_per_text)
        while count < total:
            held = sum(len(self.texts[one * total // count]) for one in range(count))
            if held >= self.budget:
                break
            count = math.ceil(count * self.budget / max(held, 1))
        count = min(count, total)
        return replace(self, texts=[self.texts[one * total // count] for one in range(count)])

    @cached_property
    def own(self) -> Sample:
        """The drawn texts without the words that they open or end with like another one of them: a quarter of a text at
        each end at most, and as far as `words_per_text` words remain."""
        texts = self.drawn().texts
        starts, ends = _shared(texts), _shared([text[::-1] for text in texts])
        own = []
        for text, start, end in zip(texts, starts, ends, strict=True):
            most = min(len(text) // 4, max(0, len(text) - self.words_per_text) // 2)
            own.append(text[min(start, most) : len(text) - min(end, most)])
        return replace(self, texts=own)

    @cached_property
    def cuts(self) -> list[Sample]:
        """`cut` at each of `PLACES`."""
        return list(map(self.cut, PLACES))

    def cut(self, place: float) -> Sample:
        """Own texts cut to `budget` words together: of each as many around `place`, a share of its length; what short
        ones leave goes to the others."""
        texts = self.own.texts
        left, cut = self.budget, [list[str]()] * len(texts)
        for done, one in enumerate(sorted(range(len(texts)), key=lambda one: len(texts[one]))):
            cut[one] = _around(place, texts[one], left // (len(texts) - done))
            left -= len(cut[one])
        return replace(self, texts=cut)


def _shared(texts: Sequence[list[str]]) -> list[int]:
    """How many words each text opens with like another one."""
    shared = [0] * len(texts)
    # Sorted, the text with the longest common beginning stands beside it.
    for one, other in itertools.pairwise(sorted(range(len(texts)), key=lambda place: texts[place])):
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(texts[one], texts[other], strict=False))
        common = sum(1 for _ in alike)
        shared[one], shared[other] = max(shared[one], common), max(shared[other], common)
    return shared


def _around(place: float, text: list[str], count: int) -> list[str]:
    start = min(max(0, int(place * len(text) - count / 2)), max(0, len(text) - count))
    return text[start : start + count]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return math.fsum(known) / len(known) if known else None


class Reference(NamedTuple):
    """What real text holds: words and word pairs with their counts, and its rare words."""

    words: Counter[str]
    pairs: Counter[tuple[str, str]]
    rare: frozenset[str]


def sample(texts: Iterable[str], budget: int, words_per_text: int = 4) -> Sample:
    return Sample([words(text) for text in texts], budget, words_per_text)


def reference(texts: Iterable[str]) -> Reference:
    real = sample(texts, 0)
    counts = Counter(real.words())
    return Reference(counts, Counter(real.pairs()), rare_types(counts))


def rare_types(counts: Counter[T]) -> frozenset[T]:
    """The types as frequent as, or less than, some frequency, that are at most `RARE_SHARE` of all; the least frequent
    ones at the least."""
    allowed = RARE_SHARE * counts.total()
    limit, so_far = 0, 0
    for count, many in sorted(Counter(counts.values()).items()):
        so_far += count * many
        if limit and so_far > allowed:
            break
        limit = count
    return frozenset(one for one, count in counts.items() if count <= limit)


def entropy(seen: Sample, real: Reference) -> float | None:
    return unigram_entropy(seen.own.words(), seen.budget)


def distinct_2(seen: Sample, real: Reference) -> float | None:
    # Words that are cut to so many a text have one pair a text less than words.
    num_pairs = seen.budget - seen.budget // seen.words_per_text
    return distinct_share(seen.own.pairs(), num_pairs) if num_pairs else None


def compression_ratio(seen: Sample, real: Reference) -> float | None:
    return _mean(map(_compression, seen.cuts))


def _compression(seen: Sample) -> float | None:
    text = "\n".join(" ".join(one) for one in seen.texts if one).encode("utf-8", "surrogatepass")
    return len(text) / len(zlib.compress(text, 9)) if text else None


def js_to_real(seen: Sample, real: Reference) -> float | None:
    """In [0, 1]; the mean over words and word pairs."""
    return _mean(_divergence(cut, real) for cut in seen.cuts)


def _divergence(seen: Sample, real: Reference) -> float | None:
    return _mean((_jensen_shannon(seen.words(), real.words), _jensen_shannon(seen.pairs(), real.pairs)))


def _jensen_shannon(items: Iterable[T], real: Counter[T]) -> float | None:
    """In bits (Lin 1991, IEEE Trans. Inf. Theory 37:145); None where either side is empty."""
    counts, divergence = Counter(items), 0.0
    if not counts or not real:
        return None
    n, m = counts.total(), real.total()
    for item, count in counts.items():
        p, q = count / n, real[item] / m
        divergence += p * math.log2(2 * p / (p + q)) + (q * math.log2(2 * q / (p + q)) if q else 0.0)
    # Real items that are not there: q log2(2q / q) = q.
    return (divergence + 1 - math.fsum(real[item] / m for item in counts)) / 2


def rare_type_coverage(seen: Sample, real: Reference) -> float | None:
    """About 1 for real text, 0 where no rare word is left."""
    counts = Counter(seen.own.words())
    size = min(seen.budget, counts.total(), real.words.total())
    expected = _num_types(real.words, real.rare, size) if size else 0.0
    return _num_types(counts, real.rare, size) / expected if expected else None


def _num_types(counts: Counter[str], types: frozenset[str], size: int) -> float:
    """How many of `types` are expected among `size` of the counted words."""
    return _num_met(Counter(count for one, count in counts.items() if one in types), counts.total(), size)


def vendi(seen: Sample, real: Reference) -> float | None:
    """exp of the entropy of the eigenvalues of K / n, K the cosines of the texts' word counts."""
    texts, count = seen.own.texts[:MAX_VENDI_TEXTS], seen.words_per_text
    return _mean(_num_distinct([_around(place, one, count) for one in texts]) for place in PLACES)


def _num_distinct(texts: Sequence[list[str]]) -> float | None:
    if not texts:
        return None
    columns: dict[str, int] = {}
    rows = np.zeros((len(texts), len({word for text in texts for word in text}) + 1))
    for row, text in zip(rows, texts, strict=True):
        for word, count in Counter(text or [""]).items():  # a text without words is like another one
            row[columns.setdefault(word, len(columns))] = count
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(rows @ rows.T / len(texts))
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


MEASURES: Mapping[str, Callable[[Sample, Reference], float | None]] = {
    one.__name__: one for one in (entropy, distinct_2, compression_ratio, js_to_real, rare_type_coverage, vendi)
}


def profile(seen: Sample, real: Reference) -> dict[str, float | None]:
    """Every measure of `MEASURES` by its name; None where there is nothing to measure."""
    return {name: measure(seen, real) for name, measure in MEASURES.items()}
