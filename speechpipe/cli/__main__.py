"""`python -m speechpipe.cli`: the same as the `speechpipe` command."""

from speechpipe.cli import main

main()
