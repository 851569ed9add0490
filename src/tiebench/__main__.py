"""`python -m tiebench` is the same program as `tiebench`."""

from tiebench.cli.app import main

main()
