"""From a checkout to a running operator, and the walk-through that shows what it does.

Standard library only, like localcluster: it runs before anything else of the project is installed.
"""
