"""``python -m xent``: the command."""

from xent.command.app import main

if __name__ == "__main__":
    main()
