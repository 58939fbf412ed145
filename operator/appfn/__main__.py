"""The entry points: `python -m appfn operator|shim|agent|trigger|key|jwt`.

Each imports only its own part: the agent must start fast and on the standard library alone, the shim never loads kopf.
"""

import importlib
import sys

_ENTRY_POINTS = {
    "operator": "appfn.handlers.run",
    "shim": "appfn.shim.supervisor",
    "agent": "appfn.agent.cli",
    "trigger": "appfn.trigger",
    "key": "appfn.shim.key_command",
    "jwt": "appfn.shim.jwt_command",
}


def main(arguments: list[str]) -> int:
    """Run the entry point named first with the remaining arguments; return the exit code."""
    if not arguments or arguments[0] not in _ENTRY_POINTS:
        print(f"usage: python -m appfn {{{'|'.join(_ENTRY_POINTS)}}} …", file=sys.stderr)  # noqa: T201 - a CLI speaks
        return 2
    module = importlib.import_module(_ENTRY_POINTS[arguments[0]])
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
