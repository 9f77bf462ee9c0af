"""The real operator process against a real etcd and kube-apiserver. Only nodes, kubelets and most agents are simulated."""
