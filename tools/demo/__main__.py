"""python -m demo run | deploy | images | operator"""

import argparse
import sys
from pathlib import Path

from demo import deploy, local, targets, walkthrough
from localcluster.say import CannotContinue


def main() -> int:
    """Run the command and return its exit code: 0 only if every step succeeded."""
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Which cluster: CLUSTER=current takes the one of KUBECONFIG (with REGISTRY=..., where its nodes pull from);"
        " CLUSTER=kind and CLUSTER=local say so; without CLUSTER it is kind where Docker answers, else a local cluster without Docker.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="everything: cluster, operator, a session that installs, runs a flow and ends when idle")
    commands.add_parser("deploy", help="build and load the images, install or upgrade the operator")
    commands.add_parser("images", help="build the images")
    operator = commands.add_parser("operator", help="run the operator of this checkout against KUBECONFIG")
    operator.add_argument("--agent", type=Path, required=True, help="agent.pyz, as `python -m flowsession_agent.build` makes it")
    arguments = parser.parse_args()
    try:
        if arguments.command == "operator":
            local.run(arguments.agent)
        target = targets.choose()
        if arguments.command == "images":
            for image in deploy.build_images(target):
                print(image.name)
        elif arguments.command == "deploy":
            target.up()
            deploy.deploy(target)
        else:
            return walkthrough.run(target)
    except CannotContinue as obstacle:
        print(f"demo {arguments.command}: {obstacle}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndemo {arguments.command}: interrupted. What was made stays; run it again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
