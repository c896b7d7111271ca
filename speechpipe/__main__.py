"""`python -m speechpipe`: the command line."""

from speechpipe.interfaces.cli import main

main()
