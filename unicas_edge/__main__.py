"""``python -m unicas_edge`` is the command line."""

from unicas_edge.cli.app import main

main()
