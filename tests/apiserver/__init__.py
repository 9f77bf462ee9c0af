"""The real operator process against a real etcd and kube-apiserver. Nodes, kubelets and most agents are played; nothing else is."""
