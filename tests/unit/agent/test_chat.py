"""The inputs that one round of a chat gives to a flow, and the history that results."""

import pytest

from flowsession_agent.errors import ApiError
from flowsession_agent.session.chat import Chat

DAG = """
inputs:
  question: {type: string, is_chat_input: true}
  chat_history: {type: list, default: [{inputs: {question: a}, outputs: {answer: b}}]}
  tone: {type: string, default: calm}
outputs:
  answer: {type: string, reference: "${a.output}", is_chat_output: true}
  other: {type: string, reference: "${a.output}"}
nodes: []
"""
BEFORE = {"inputs": {"question": "a"}, "outputs": {"answer": "b"}}


def chat(tmp_path, text, history=None, *, name="flow.dag.yaml", **given):
    (tmp_path / name).write_text(text)
    return Chat(str(tmp_path / name), "hi", history, given=given)


def test_the_first_round_begins_with_the_flows_own_history(tmp_path):
    first = chat(tmp_path, DAG)
    assert first.inputs == {"question": "hi", "chat_history": [BEFORE]}
    outputs = {"answer": "hello", "other": "x"}
    assert first.answer(outputs) == {"output": "hello", "history": [BEFORE, {"inputs": {"question": "hi"}, "outputs": outputs}]}


def test_a_later_round_goes_on_with_the_history_that_it_is_given(tmp_path):
    assert chat(tmp_path, DAG, []).inputs["chat_history"] == []


def test_the_first_round_begins_with_the_history_that_was_given(tmp_path):
    assert chat(tmp_path, DAG, chat_history='["said"]').inputs["chat_history"] == ["said"]
    assert chat(tmp_path, DAG, [], chat_history='["said"]').inputs["chat_history"] == []
    with pytest.raises(ApiError, match="chat_history is the chat's history, and must be a list as JSON"):
        chat(tmp_path, DAG, chat_history="said")


def test_an_input_marked_as_history_is_it_whatever_its_name(tmp_path):
    text = DAG.replace("tone: {type: string,", "past: {type: list, is_chat_history: true,").replace("default: calm", "default: []")
    assert chat(tmp_path, text).inputs == {"question": "hi", "past": []}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flow.flex.yaml", "entry: m:f\n" + DAG.replace("nodes: []\n", "")),
        ("chat.prompty", "---\nname: x\ninputs: {question: {type: string, is_chat_input: true}, chat_history: {type: list}}\n---\nuser:\n"),
    ],
)
def test_the_history_of_flex_flows_and_prompties_is_in_roles(name, text, tmp_path):
    found = chat(tmp_path, text, [], name=name).answer({"output": "hello"})
    assert found == {"output": "hello", "history": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: []\n", "one input must be marked is_chat_input: true, and none is"),
        (DAG.replace("tone: {type: string,", "tone: {type: string, is_chat_input: true,"), "and question, tone are marked so"),
        (DAG.replace(", is_chat_output: true", ""), "one output must be marked is_chat_output: true, and none is"),
        (DAG.replace("chat_history: {", "past: {"), "no input for the history: add one named chat_history"),
        (DAG.replace("chat_history: {", "chat_history: {is_chat_history: false, "), "no input for the history"),
        ("inputs: [\n", "flow.dag.yaml can't be read"),
    ],
)
def test_what_is_no_chat_flow_is_told_why(text, words, tmp_path):
    with pytest.raises(ApiError) as refused:
        chat(tmp_path, text)
    assert (refused.value.status, refused.value.code) == (422, "NoChatFlow")
    assert words in refused.value.message
