"""One line: does the answer say what it must?"""

from promptflow.core import tool


@tool
def grade(answer: str, expected: str) -> str:
    return "right" if expected.casefold() in answer.casefold() else "wrong"
