"""``python -m bathyscope``: the command line, where the script `bathyscope` is not on the path."""

from __future__ import annotations

from service.commands.application import main

if __name__ == "__main__":
    main()
