"""python -m localcluster up | down | status | path | packages | programs | image-base | image-build | image-load"""

import argparse
import sys
from pathlib import Path

from localcluster import binaries, cluster, debian, images, preflight, programs
from localcluster.say import CannotContinue


def main() -> int:
    """Run the command and return its exit code. Report an obstacle in one sentence."""
    parser = argparse.ArgumentParser(prog="localcluster", description="A real Kubernetes on one Linux machine without Docker.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="bring the cluster up, or find it up; the first time takes about 15 minutes")
    commands.add_parser("down", help="take everything away but the cache")
    commands.add_parser("status", help="say what runs; exit 1 unless everything does")
    commands.add_parser("path", help="print the folder with kubectl, helm and the rest, for PATH")
    packages = commands.add_parser("packages", help="install the Debian packages that a part of the project uses, where they are missing")
    packages.add_argument("group", choices=sorted(debian.GROUPS))
    commands.add_parser("programs", help="name programs that the code starts and the list of Debian packages lacks; exit 1 if there are")
    commands.add_parser("image-base", help="make our Debian image with Python and print its reference")
    build = commands.add_parser("image-build", help="build a Dockerfile with Docker or buildah and print `NAME:TAG ID`")
    build.add_argument("name", help="e.g. localhost/flowsession-runtime")
    build.add_argument("tag", help="a tag, or `auto` for one made from the content")
    build.add_argument("dockerfile", type=Path)
    build.add_argument("context", type=Path)
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    load = commands.add_parser("image-load", help="put an image on every node that lacks it")
    load.add_argument("reference", metavar="NAME:TAG")
    load.add_argument("archive", type=Path, nargs="?", help="a docker-archive or OCI archive; without it, the image that image-build built")
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except CannotContinue as obstacle:
        print(f"localcluster {arguments.command}: {obstacle}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"localcluster {arguments.command}: interrupted; run it again to go on", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "up":
        cluster.up()
    elif arguments.command == "down":
        cluster.down()
    elif arguments.command == "status":
        return 0 if cluster.status() else 1
    elif arguments.command == "path":
        print(binaries.install_folder())
    elif arguments.command == "packages":
        debian.ensure(debian.GROUPS[arguments.group])
    elif arguments.command == "programs":
        return _programs()
    else:
        preflight.check_user()
        _run_image(arguments)
    return 0


def _programs() -> int:
    found = programs.unlisted()
    for line in found:
        print(f"{line} is not on the list in tools/localcluster/debian.py: add it with the Debian package that has it", file=sys.stderr)
    return 1 if found else 0


def _run_image(arguments: argparse.Namespace) -> None:
    if arguments.command == "image-base":
        print(images.python_base())
    elif arguments.command == "image-build":
        build_args = dict(word.split("=", 1) for word in arguments.build_arg)
        tag = None if arguments.tag == "auto" else arguments.tag
        ref = images.build(arguments.name, arguments.dockerfile, arguments.context, build_args, tag=tag)
        print(ref.name, ref.id)
    elif arguments.archive is not None:
        images.load_archive(arguments.reference, arguments.archive)
    else:
        images.load(images.find(arguments.reference))


if __name__ == "__main__":
    sys.exit(main())
