"""Says which team answers, and how soon; a person reads what the model is unsure of."""

from promptflow.core import tool

TEAMS = {
    "billing": ("Billing", "one working day"),
    "access": ("Identity", "four hours"),
    "outage": ("Operations", "thirty minutes"),
    "shipping": ("Logistics", "two working days"),
    "feature": ("Product", "a week"),
}
UNSURE_BELOW = 0.4


@tool
def route(category: str, confidence: float) -> dict:
    """Returns the team and the time in which it answers."""
    team, answer_within = TEAMS[category] if confidence >= UNSURE_BELOW else ("First line", "one working day")
    return {"team": team, "answer_within": answer_within}
