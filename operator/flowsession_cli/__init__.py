"""`kubectl flow`: flow folders run in the cluster from a terminal. It writes objects and reads statuses; the operator decides."""
