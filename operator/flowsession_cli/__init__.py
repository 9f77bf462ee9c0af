"""`kubectl flow`, which runs flow folders in the cluster from a terminal. It writes objects and reads statuses; the operator decides."""
