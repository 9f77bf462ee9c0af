"""The one line that explains a failed flow."""

import pytest

from flowsession_agent.session.flow_test import last_words

TRACEBACK = """Traceback (most recent call last):
  File "<string>", line 1, in <module>
"""
REFUSED = """promptflow.core._errors.GenerateFlowMetaJsonError: Generate meta failed, detail error:
["Parse interface for 'main' failed: The return annotation must be a string."]
"""


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("", ""),
        ("it only says this\n", "it only says this"),
        (f"{TRACEBACK}KeyError: 'a'\n", "KeyError: 'a'"),
        (f"{TRACEBACK}ValueError: first\n{TRACEBACK}KeyError: 'a'\n", "KeyError: 'a'"),
        (
            f"{TRACEBACK}{REFUSED}",
            "promptflow.core._errors.GenerateFlowMetaJsonError: Generate meta failed, detail error:"
            """ ["Parse interface for 'main' failed: The return annotation must be a string."]""",
        ),
        (f"{TRACEBACK}KeyError: a sentence with an open end:\n", "KeyError: a sentence with an open end:"),
    ],
)
def test_the_last_words_are_the_cause(stderr, line):
    assert last_words(stderr) == line
