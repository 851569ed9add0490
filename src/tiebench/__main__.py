"""`python -m tiebench` is the same program as `tiebench`."""

import os
import sys

if sys.path and not sys.flags.safe_path and sys.path[0] == os.getcwd():
    del sys.path[0]  # the working directory: no module in it is meant to be imported

from tiebench.cli.app import main

main()
