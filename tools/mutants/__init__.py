"""Mutation runs: small changes to the decisions and the engine, each of which some unit test should detect."""
