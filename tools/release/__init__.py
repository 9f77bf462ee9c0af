"""What comes with a release of `kubectl flow`: the program as one file, krew's manifest, a k9s plugin file, and the reference page."""
