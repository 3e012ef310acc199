"""`python book/publish`: its modules are found as `publish.X`, never by a bare name."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

if sys.argv[1:] == ["doctor"]:  # works where nothing is installed
    from publish.doctor import main
else:
    try:
        from publish.cli import main
    except ImportError as error:
        sys.exit(f"{error}. Use .venv-book/bin/python, which `make book` sets up.")

sys.exit(main())
