"""The files of a `kubectl flow` release: the program as one file, krew's manifest, a k9s plugin file, and the reference page."""
