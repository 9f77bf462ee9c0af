"""Mutation runs: small changes of the decisions and the engine, each of which some unit test should notice."""
