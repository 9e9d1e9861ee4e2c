"""Core Tables alone, without its peers: `python -m bench --quick`. It needs no more than `make .venv/.ready` installs."""

from bench import contenders
from bench.command import command

main = command("bench", contenders.field, into="build/bench")

if __name__ == "__main__":
    main()
