"""The operator's own metrics, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

api_requests = Histogram(
    "flowsession_api_request_seconds",
    "Requests to the API server, by method and HTTP status.",
    ["method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
agent_calls = Histogram(
    "flowsession_agent_call_seconds",
    "Calls to session agents, by call and outcome; long polls excepted.",
    ["call", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
edit_hints = Counter("flowsession_edit_hints_total", "Datagrams by which agents say that edits wait, by what became of them.", ["outcome"])
reconciles = Counter("flowsession_reconciles_total", "Decisions taken, by kind and outcome.", ["kind", "outcome"])
queue_length = Gauge("flowsession_queue_length", "Keys that wait for a decision.")
unreadable = Counter("flowsession_unreadable_objects_total", "Objects that could not be read and were left alone, by kind.", ["kind"])
relist_failures = Counter("flowsession_relist_failures_total", "Kinds that a re-list could not read, by kind.", ["kind"])
task_deaths = Counter("flowsession_task_deaths_total", "Background tasks that ended and were started again, by task.", ["task"])
sessions = Gauge("flowsession_sessions", "Sessions known to the operator.")
