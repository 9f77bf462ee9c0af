"""Finds solved tickets of the same category whose words are closest to the new one's."""

from pathlib import Path

import pandas as pd
from promptflow.core import tool
from rapidfuzz import fuzz, process

TICKETS = Path(__file__).parent / "data" / "tickets.csv"


@tool
def find_similar(subject: str, body: str, category: str, limit: int = 2) -> list:
    """Returns at most `limit` tickets, the closest first, each with a score from 0 to 100 and what solved it."""
    tickets = pd.read_csv(TICKETS)
    tickets = tickets[tickets["category"] == category]
    texts = (tickets["subject"] + ". " + tickets["body"]).to_dict()
    found = process.extract(f"{subject}. {body}", texts, scorer=fuzz.token_set_ratio, limit=limit)
    return [
        {"id": str(tickets.at[row, "id"]), "score": round(score, 1), "solution": str(tickets.at[row, "solution"])}
        for _, score, row in found
    ]
