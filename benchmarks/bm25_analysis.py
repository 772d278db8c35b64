"""How often BM25 finds the right passage, by how it takes texts apart: ``python -m benchmarks.bm25_analysis``.

The passages are the entries of two dictionaries, Debian's packages dict-gcide and dict-foldoc. Queries are of two
kinds: sentences, each taken out of an entry, which is to be found by what is left of it; and WordNet's definitions
(dict-wn) of words that have an entry. The baseline is Lucene's formula (bm25s's "lucene" at Lucene's ``k1`` 1.2) over
Lucene's English analysis as its documentation has it, written here anew. With an encoder, its ranking is fused with
each of them.
"""

import gzip
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import bm25s
import Stemmer
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from slime_search.data.coverage import Share
from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.retriever import Hit, HybridRetriever, Retriever
from slime_search.retrieval.words import Language, splitter_of

DEPTH = 3
HYBRID_DEPTH = 100
PASSAGES, DEFINITIONS = ("gcide", "foldoc"), "wn"
FUSED = (", fused",)
SHORTEST = 6
"""Words of a sentence that is a query, at least, and of what remains of its entry."""
_DIGITS = {
    character: value
    for value, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_DEFINITION = re.compile(r"\b(?:n|v|adj|adv) ?1?: (.+?)(?:;| \[| 2:|$)")
"""The first sense of an entry of WordNet, without its synonyms and examples."""
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+(?=[A-Z\"])")
_LUCENE_STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)
# For Lucene's StandardTokenizer, letters with an apostrophe, dot or colon between them are one word, and so are
# digits with an apostrophe, dot or comma.
_LUCENE_WORD = re.compile(r"\w+(?:(?:(?<=[^\W\d_])['’.:](?=[^\W\d_])|(?<=\d)[.,'’](?=\d))\w+)*")


class Query(NamedTuple):
    text: str
    right: frozenset[int]
    """Rows of which one is to be found."""


class Case(NamedTuple):
    passages: list[str]
    queries: dict[str, list[Query]]
    """By their kind."""


def main(
    dictionaries: Annotated[Path, typer.Option(help="Where gcide, foldoc and wn are, as .index and .dict.dz.")] = Path(
        "/usr/share/dictd"
    ),
    queries: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 1_000,
    passages: Annotated[int, typer.Option(min=1, help="At most.")] = 120_000,
    encoder: Annotated[Path | None, typer.Option(help="A sentence encoder's folder, to fuse with.")] = None,
) -> None:
    """Prints the share of queries with a right passage among the first three."""
    console = Console()
    case = make_case(dictionaries, queries, passages)
    console.print(describe("bm25s", "PyStemmer"), highlight=False)
    counts = ", ".join(f"{len(of_kind):,} {kind}" for kind, of_kind in case.queries.items())
    console.print(f"{len(case.passages):,} passages; {counts}", highlight=False)
    retrievers: dict[str, Callable[[], Retriever]] = {
        "words as they are": lambda: Bm25Index.build(case.passages, splitter_of(Language.NONE)),
        "english, the default": lambda: Bm25Index.build(case.passages, splitter_of(Language.ENGLISH)),
        "Lucene's, the baseline": lambda: LuceneIndex(case.passages),
    }
    dense = Fixed(case, encoder) if encoder is not None else None
    table = Table(
        "BM25 over", "built in", *(f"{kind}{how}" for kind in case.queries for how in ("", *FUSED[: bool(dense)]))
    )
    for name, build in retrievers.items():
        started = time.process_time()
        retriever = build()
        ways = [retriever, *([HybridRetriever([retriever, dense])] if dense else [])]
        built = f"{time.process_time() - started:.1f} s"
        table.add_row(name, built, *(found_share(way, of_kind) for of_kind in case.queries.values() for way in ways))
    if dense:
        cells = [cell for of_kind in case.queries.values() for cell in ("", found_share(dense, of_kind))]
        table.add_row("the encoder alone", "", *cells)
    console.print(table)


def found_share(retriever: Retriever, queries: Sequence[Query]) -> str:
    """Of queries with a right passage among the first three, with Wilson's 95 % interval."""
    found = retriever.search([query.text for query in queries], DEPTH)
    right = sum(any(hit.row_index in query.right for hit in hits) for query, hits in zip(queries, found, strict=True))
    share = Share(right, len(queries))
    return f"{share.value:.3f} ({share.interval[0]:.3f}–{share.interval[1]:.3f})"


def make_case(folder: Path, queries: int, passages: int) -> Case:
    """The same one each time."""
    rng = random.Random(0)
    entries = [entry for name in PASSAGES for entry in entries_of(folder / f"{name}.index")]
    rng.shuffle(entries)
    case = Case([], {"sentences": [], "definitions": []})
    rows: dict[str, set[int]] = {}
    for row, (headword, text) in enumerate(entries[:passages]):
        sentences = _SENTENCE_END.split(" ".join(text.split()))
        long = [number for number, sentence in enumerate(sentences) if len(sentence.split()) >= SHORTEST]
        if len(case.queries["sentences"]) < queries and len(long) > 1:
            case.queries["sentences"].append(Query(sentences.pop(rng.choice(long)), frozenset([row])))
        rows.setdefault(headword.lower(), set()).add(row)
        case.passages.append(f"{headword}\n{' '.join(sentences)}")
    defined = [entry for entry in entries_of(folder / f"{DEFINITIONS}.index") if entry[0].lower() in rows]
    rng.shuffle(defined)
    for headword, text in defined:
        definition = _DEFINITION.search(" ".join(text.split()))
        if definition and len(definition[1].split()) >= SHORTEST and len(case.queries["definitions"]) < queries:
            case.queries["definitions"].append(Query(definition[1], frozenset(rows[headword.lower()])))
    return case


def entries_of(index: Path) -> Iterator[tuple[str, str]]:
    """Headwords and texts of a dictionary in the dictd format; an entry under several headwords once."""
    data = gzip.decompress(index.with_suffix(".dict.dz").read_bytes())
    seen = set()
    for line in index.read_text(encoding="utf-8").splitlines():
        headword, start, size = line.split("\t")[:3]
        if not headword.startswith("00-database") and start not in seen:
            seen.add(start)
            yield headword, data[_number(start) : _number(start) + _number(size)].decode(errors="replace")


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = 64 * value + _DIGITS[digit]
    return value


class LuceneIndex:
    """The baseline."""

    def __init__(self, passages: Sequence[str]) -> None:
        self._stem = Stemmer.Stemmer("porter").stemWord
        self._vocabulary: dict[str, int] = {}
        known = self._vocabulary
        ids = [[known.setdefault(word, len(known)) for word in self._words(text)] for text in passages]
        self._scorer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        self._scorer.index((ids, known), create_empty_token=False, show_progress=False)

    def _words(self, text: str) -> list[str]:
        words = (re.sub("['’]s$", "", word) for word in _LUCENE_WORD.findall(text.lower()))
        return [self._stem(word) if len(word) > 2 else word for word in words if word not in _LUCENE_STOP_WORDS]

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        found = []
        for query in queries:
            ids = [self._vocabulary[word] for word in self._words(query) if word in self._vocabulary]
            scores = self._scorer.get_scores_from_ids(ids)
            best = (-scores).argsort(kind="stable")[:topk]
            found.append([Hit(row, scores[row]) for row in best.tolist() if scores[row] > 0])
        return found


class Fixed:
    """The encoder's ranking of every query, made once."""

    def __init__(self, case: Case, folder: Path) -> None:
        from slime_search.retrieval.encoders.loading import load_encoder

        encoder = load_encoder(str(folder))
        texts = [query.text for of_kind in case.queries.values() for query in of_kind]
        scores = encoder.encode_queries(texts) @ encoder.encode_passages(case.passages).T
        best = (-scores).argsort(axis=1, kind="stable")[:, :HYBRID_DEPTH]
        self._hits = {
            text: [Hit(row, float(of_query[row])) for row in rows]
            for text, of_query, rows in zip(texts, scores, best.tolist(), strict=True)
        }

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        return [self._hits[query][:topk] for query in queries]


if __name__ == "__main__":
    typer.run(main)
