"""The whole on real kubelets: the installed operator, runtime images and clients as people have them."""
