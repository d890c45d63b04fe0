"""``python -m edge`` is ``anlin``."""

import sys

from edge.cli import main

sys.exit(main())
