// The process that holds a pod's network namespace open: the sandbox image's only program.
module flowsession.dev/tools/pause

go 1.26.0
