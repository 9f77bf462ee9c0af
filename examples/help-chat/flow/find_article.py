"""Finds the help article that shares the rarest words with the question."""

import json
import math
import re
from pathlib import Path

from promptflow.core import tool

ARTICLES = Path(__file__).parent / "articles.jsonl"
STEM = 5
"""As many letters of a word count: `returns` and `returned` are one word."""


def words(text: str) -> set[str]:
    """The words of a text, in lower case, without their endings."""
    return {word[:STEM] for word in re.findall(r"\w{3,}", text.lower())}


@tool
def find_article(question: str, chat_history: list) -> dict:
    """Returns title and text of the closest article; the turn before tells what a short question is about."""
    articles = [json.loads(line) for line in ARTICLES.read_text(encoding="utf-8").splitlines()]
    known = [words(f"{article['title']} {article['text']} {article['words']}") for article in articles]
    before = chat_history[-1]["inputs"]["question"] if chat_history else ""
    asked = dict.fromkeys(words(question), 1.0)
    weights = {**dict.fromkeys(words(before), 0.5), **asked}

    def score(own: set[str]) -> float:
        rarity = {word: math.log(len(known) / sum(word in other for other in known)) for word in own & weights.keys()}
        return sum(weights[word] * rarity[word] for word in rarity)

    best = max(range(len(articles)), key=lambda number: score(known[number]))
    return {"title": articles[best]["title"], "text": articles[best]["text"]}
