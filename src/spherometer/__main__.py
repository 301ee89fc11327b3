"""``python -m spherometer`` and ``torchrun -m spherometer``: the same commands."""

from __future__ import annotations

import sys

from spherometer.cli import main

sys.exit(main())
