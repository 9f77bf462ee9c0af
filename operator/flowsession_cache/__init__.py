"""The package cache: a pull-through proxy of package indexes that sessions can read and nobody can write to."""
