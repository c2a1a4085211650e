"""The command line as ``python -m cyberun_async``."""

from .cli import main


if __name__ == "__main__":
    raise SystemExit(main())
