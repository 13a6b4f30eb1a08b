"""`python -m gpubranches` runs the command line."""

from gpubranches.cli import main

main()
