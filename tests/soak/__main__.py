"""
Soak the client: ``nox -s soak``, or ``python tests/soak``.

150 tasks at once are followed in every way against a service that misbehaves at random. It
fails if a promise is broken, if something is left behind, or if a kind of fault never struck.
"""

import sys
from pathlib import Path


if __name__ == "__main__":
    # Behind everything else, so that it is the installed package which is soaked.
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.soak.report import main

    sys.exit(main())
