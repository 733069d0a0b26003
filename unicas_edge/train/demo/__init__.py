"""The embedded bundle, made from public pictures by one command."""
