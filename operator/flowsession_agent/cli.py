"""placeholder"""


def main(argv):
    return 2
