"""One line: was the guess right?"""

from promptflow.core import tool


@tool
def grade(category: str, expected: str) -> str:
    return "right" if category == expected else "wrong"
