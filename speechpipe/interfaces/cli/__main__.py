"""`python -m speechpipe.interfaces.cli`: the same as the `speechpipe` command."""

from speechpipe.interfaces.cli import main

main()
